/* SPDX-License-Identifier: Apache-2.0
 * Who taught whom: one JSON object for each matched pair of a step. */
#include "kd/distiller.h"

#include <stdio.h>

/* Object of a teacher query, as in gt.*, or -1. */
static int32_t object_of(const dd_distiller *d, int32_t stage, int32_t image, int32_t query)
{
    const ddi_matching *m = &d->teacher_match;
    if (!ddi_needs_teacher_match(d))
        return -1;
    int32_t object = m->host_match[((size_t)stage * (size_t)m->images + (size_t)image) * (size_t)m->queries + (size_t)query];
    return object < 0 ? -1 : d->objects.original[d->objects.offsets[image] + object];
}

void ddi_trace_matches(dd_distiller *d)
{
    const ddi_matching *m = &d->kd_match;
    if (!d->trace || !d->active[DDI_LOGITS])
        return;
    size_t entry = 0;
    for (int32_t k = 0; k < m->blocks; k++) {
        int32_t image = k % m->images;
        const int32_t *pair = &d->pairs.pair[2 * (k / m->images)];
        for (int32_t i = 0; i < m->queries; i++, entry++) {
            int32_t teacher = m->host_match[entry];
            if (teacher < 0 || !d->objects.image_use[image])
                continue;
            char line[256];
            const char *kind = m->host_kind && m->host_kind[entry] == 2 ? "negative" : m->host_kind ? "positive" : "joint";
            int bytes = snprintf(line, sizeof line,
                                 "{\"step\":%lld,\"image\":%d,\"student_stage\":%d,\"teacher_stage\":%d,\"student_query\":%d,"
                                 "\"teacher_query\":%d,\"object\":%d,\"kind\":\"%s\"}",
                                 (long long)d->steps - 1, image, pair[0], pair[1], i, teacher,
                                 object_of(d, pair[1], image, teacher), kind);
            if (d->trace(d->trace_user, line, bytes) != 0)
                return;
        }
    }
}
