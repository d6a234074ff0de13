/* SPDX-License-Identifier: Apache-2.0
 * Learning rate over a run. */
#include "train/schedule.h"
#include "base/error.h"

#include <string.h>

static dd_status bad_drops(const char *text)
{
    return ddi_fail(DD_ERR_OPTION, "drop", "trainer option drop=%.80s: needs auto, or up to %d ascending epochs as in 8,11",
                    text, DDI_MOST_DROPS);
}

dd_status ddi_schedule_drops(ddi_schedule *s, const char *text, int64_t epochs)
{
    s->drops = 0;
    if (strcmp(text, "auto") == 0) {
        s->drop[0] = epochs - epochs / 5;
        s->drops = epochs >= 5;
        return DD_OK;
    }
    for (const char *at = text; *at; at += *at == ',') {
        int64_t epoch = 0;
        const char *begin = at;
        for (; *at >= '0' && *at <= '9' && at - begin < 10; at++) {
            epoch = epoch * 10 + (*at - '0');
        }
        const bool ends = *at == '\0' || (*at == ',' && at[1]);
        if (at == begin || !ends || s->drops == DDI_MOST_DROPS || (s->drops && epoch <= s->drop[s->drops - 1])) {
            return bad_drops(text);
        }
        s->drop[s->drops++] = epoch;
    }
    return s->drops ? DD_OK : bad_drops(text);
}

double ddi_schedule_rate(const ddi_schedule *s, int64_t step, int64_t epoch)
{
    double rate = 1;
    for (int32_t i = 0; i < s->drops; i++) {
        rate *= epoch >= s->drop[i] ? s->drop_factor : 1;
    }
    if (step < s->warmup) {
        rate *= 1 - (1 - (double)step / (double)s->warmup) * (1 - s->warmup_from);
    }
    return rate;
}

double ddi_schedule_average(double decay, int64_t update)
{
    const double early = (1 + (double)update) / (10 + (double)update);
    return early < decay ? early : decay;
}
