/* SPDX-License-Identifier: Apache-2.0
 * The record of a run, its table and its CSV file. */
#include "history.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "loss.logits.stage0.giou" -> "logits.giou": these students have one stage. */
static void short_name(const char *name, char out[TERM_NAME])
{
    const char *rest = strncmp(name, "loss.", 5) == 0 ? name + 5 : name, *stage = strstr(rest, ".stage0");
    if (stage)
        snprintf(out, TERM_NAME, "%.*s%s", (int)(stage - rest), rest, stage + 7);
    else
        snprintf(out, TERM_NAME, "%s", rest);
}

dd_status history_init(history *h, const dd_distiller *distiller, int64_t steps, const verdict *teacher)
{
    *h = (history){.teacher = *teacher};
    dd_status status = dd_distiller_term_count(distiller, &h->terms);
    if (status)
        return status;
    h->name = calloc((size_t)h->terms, TERM_NAME);
    h->shown = calloc((size_t)h->terms, sizeof *h->shown);
    h->value = calloc((size_t)(steps * h->terms), sizeof *h->value);
    h->stability = calloc((size_t)steps, sizeof *h->stability);
    h->judged = calloc((size_t)steps, sizeof *h->judged);
    h->is_judged = calloc((size_t)steps, sizeof *h->is_judged);
    if (!h->name || !h->shown || !h->value || !h->stability || !h->judged || !h->is_judged)
        return DD_ERR_NOMEM;
    for (int32_t i = 0; i < h->terms && !status; i++) {
        const char *name = "";
        status = dd_distiller_term_at(distiller, i, &name, NULL);
        short_name(name, h->name[i]);
        h->shown[i] = strcmp(name, "loss.total") == 0 || strstr(name, ".stage0.");
    }
    return status;
}

dd_status history_add(history *h, const training *t, const verdict *judged)
{
    dd_status status = DD_OK;
    for (int32_t i = 0; i < h->terms && !status; i++)
        status = dd_distiller_term_at(t->distiller, i, NULL, &h->value[h->steps * h->terms + i]);
    h->stability[h->steps] = training_stability(t);
    if (judged) {
        h->judged[h->steps] = *judged;
        h->is_judged[h->steps] = true;
    }
    h->steps++;
    return status;
}

double history_value(const history *h, int64_t step, int32_t term)
{
    return h->value[step * h->terms + term];
}

void history_free(history *h)
{
    free(h->name);
    free(h->shown);
    free(h->value);
    free(h->stability);
    free(h->judged);
    free(h->is_judged);
}

static int column_width(const history *h, int32_t term)
{
    int length = (int)strlen(h->name[term]);
    return length > 9 ? length : 9;
}

void print_heading(const history *h)
{
    printf("%5s", "step");
    for (int32_t i = 0; i < h->terms; i++) {
        if (h->shown[i])
            printf(" %*s", column_width(h, i), h->name[i]);
    }
    printf(" %8s %8s %7s\n", "partners", "objects", "AP");
}

void print_row(const history *h, int64_t step)
{
    printf("%5lld", (long long)step);
    for (int32_t i = 0; i < h->terms; i++) {
        if (h->shown[i])
            printf(" %*.5f", column_width(h, i), history_value(h, step, i));
    }
    if (h->stability[step] < 0)
        printf(" %8s", "-");
    else
        printf(" %7.1f%%", 100 * h->stability[step]);
    printf(" %7.1f%% %7.4f\n", 100 * h->judged[step].found, h->judged[step].ap);
    fflush(stdout);
}

bool write_csv(const history *h, const char *path)
{
    FILE *file = fopen(path, "w");
    if (!file)
        return false;
    fprintf(file, "step");
    for (int32_t i = 0; i < h->terms; i++)
        fprintf(file, ",%s", h->name[i]);
    fprintf(file, ",partners_kept,objects_found,AP,AP50,AP75\n");
    for (int64_t s = 0; s < h->steps; s++) {
        fprintf(file, "%lld", (long long)s);
        for (int32_t i = 0; i < h->terms; i++)
            fprintf(file, ",%.9g", history_value(h, s, i));
        fprintf(file, h->stability[s] < 0 ? "," : ",%.6f", h->stability[s]);
        const verdict *v = &h->judged[s];
        if (h->is_judged[s])
            fprintf(file, ",%.6f,%.6f,%.6f,%.6f\n", v->found, v->ap, v->ap50, v->ap75);
        else
            fprintf(file, ",,,,\n");
    }
    bool written = !ferror(file);
    return fclose(file) == 0 && written;
}
