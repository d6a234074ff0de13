/* SPDX-License-Identifier: Apache-2.0
 * The journey of a C host: outputs of two detectors in, a distilled student, a table, a picture and a CSV file out. */
#include "history.h"
#include "options.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { GOOD = 0, WRONG_ARGUMENTS = 2, NO_FILE = 3, LIBRARY_FAILED = 4, ENDED_EARLY = 130 };
enum { TABLE_EVERY = 50, JUDGE_EVERY = 10 };

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int library_failed(dd_status status)
{
    const char *message = dd_error_message();
    fprintf(stderr, "distil_outputs: %s: %s\n", dd_status_name(status), *message ? message : "out of memory");
    return LIBRARY_FAILED;
}

/* One line that is written over, on a terminal only. */
static void show_progress(int64_t step, int64_t steps, double start)
{
    if (isatty(STDERR_FILENO) && step > 0)
        fprintf(stderr, "\rstep %lld/%lld, %.0f s left \033[K", (long long)step, (long long)steps,
                (seconds() - start) / (double)step * (double)(steps - step));
}

static void end_progress(void)
{
    if (isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
}

/* All steps; the last one is only looked at. */
static dd_status train(training *t, history *h, dd_context *context, const verdict *teacher, int64_t steps)
{
    double start = seconds();
    dd_status status = DD_OK;
    for (int64_t step = 0; step <= steps && !status; step++) {
        bool last = step == steps || interrupted, judging = step % JUDGE_EVERY == 0 || last;
        verdict v;
        status = training_losses(t);
        if (!status && step == 0)
            status = history_init(h, t->distiller, steps + 1, teacher);
        if (!status && judging)
            status = judge(t->c, &t->c->student, context, &v);
        if (!status)
            status = history_add(h, t, judging ? &v : NULL);
        if (status)
            break;
        if (step % TABLE_EVERY == 0 || last) {
            end_progress();
            if (step == 0)
                print_heading(h);
            print_row(h, step);
        }
        if (last)
            break;
        training_update(t);
        show_progress(step + 1, steps, start);
    }
    end_progress();
    return status;
}

static int write_files(const history *h, const char *folder)
{
    char csv[4096], svg[4096];
    if (snprintf(csv, sizeof csv, "%s/terms.csv", folder) >= (int)sizeof csv)
        errno = ENAMETOOLONG;
    else if (snprintf(svg, sizeof svg, "%s/curves.svg", folder) < (int)sizeof svg && write_csv(h, csv) &&
             write_curves(h, svg)) {
        printf("wrote %s and %s\n", svg, csv);
        return GOOD;
    }
    fprintf(stderr, "distil_outputs: cannot write to %s: %s\n", folder, strerror(errno));
    return NO_FILE;
}

static void print_summary(const history *h)
{
    const verdict *before = &h->judged[0], *after = &h->judged[h->steps - 1], *teacher = &h->teacher;
    printf("\n%-16s %7s %7s %7s %8s\n", "", "AP", "AP50", "AP75", "objects");
    printf("%-16s %7.4f %7.4f %7.4f %7.1f%%\n", "teacher", teacher->ap, teacher->ap50, teacher->ap75, 100 * teacher->found);
    printf("%-16s %7.4f %7.4f %7.4f %7.1f%%\n", "student before", before->ap, before->ap50, before->ap75, 100 * before->found);
    printf("%-16s %7.4f %7.4f %7.4f %7.1f%%\n", "student after", after->ap, after->ap50, after->ap75, 100 * after->found);
}

static int distil(distil_case *c, dd_context *context, const options *o)
{
    training t = {0};
    history h = {0};
    verdict teacher;
    const char *description = "";
    dd_status status = dd_context_describe(context, &description);
    printf("%s: %lld pictures, %lld objects of %lld classes, teacher %lld queries, student %lld\non %s; the student learns "
           "from %s\n\n",
           c->source, (long long)c->pictures, (long long)c->objects, (long long)c->classes, (long long)c->teacher.queries,
           (long long)c->student.queries, description, o->labels ? "the teacher and the objects" : "the teacher");
    if (!status)
        status = judge(c, &c->teacher, context, &teacher);
    if (!status)
        status = training_init(&t, c, context, o->labels, o->joint, o->rate, o->box_rate);
    if (!status)
        status = train(&t, &h, context, &teacher, o->steps);
    int result = status ? library_failed(status) : GOOD;
    if (!status) {
        print_summary(&h);
        result = write_files(&h, o->out);
        if (result == GOOD && interrupted)
            result = ENDED_EARLY;
    }
    history_free(&h);
    training_free(&t);
    return result;
}

/* The folder exists or is made. */
static bool make_folder(const char *path)
{
    struct stat about;
    if (mkdir(path, 0777) == 0 || (errno == EEXIST && stat(path, &about) == 0 && S_ISDIR(about.st_mode)))
        return true;
    fprintf(stderr, "distil_outputs: cannot make the folder %s: %s\n", path, strerror(errno));
    return false;
}

int main(int argc, char **argv)
{
    options o;
    distil_case c = {0};
    dd_context *context = NULL;
    char message[CASE_MESSAGE] = "out of memory", device[300];
    if (!options_parse(&o, argc, argv))
        return WRONG_ARGUMENTS;
    if (o.help) {
        options_help();
        return GOOD;
    }
    if (!make_folder(o.out))
        return NO_FILE;
    bool ready =
        o.data ? case_load(&c, o.data, o.ground_truth, o.teacher, o.student, message) : case_generate(&c, (uint64_t)o.seed);
    if (!ready) {
        fprintf(stderr, "distil_outputs: %s\n", message);
        case_free(&c);
        return NO_FILE;
    }
    signal(SIGINT, on_interrupt);
    snprintf(device, sizeof device, "device=%s", o.device ? o.device : dd_has("cpu") ? "cpu" : "ref");
    dd_status status = dd_context_create(&context, device);
    int result = status ? library_failed(status) : distil(&c, context, &o);
    dd_context_free(context);
    case_free(&c);
    return result;
}
