/* SPDX-License-Identifier: Apache-2.0
 * R1 for training steps through models: every fallible call of attaching, of a first step and of a stored teacher fails once,
 * and for good; what is left goes on to the same bits as an undisturbed one. */
#include "../distiller/case.h"
#include "../distiller/models.h"
#include "base/alloc.h"
#include "models/model.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define OPTIONS "feature-source=neck contrastive=1 contrastive-width=8"

/* Models of a family, small enough to run some hundred times. */
typedef struct family {
    const char *student, *teacher;
} family;
static const family families[] = {
    {TINY_STUDENT "encoder-layers=0 decoder-layers=1", TINY_WIDE "encoder-layers=0 decoder-layers=1"},
    {TINY_STUDENT "family=conditional-detr levels=1 encoder-layers=0 decoder-layers=1",
     TINY_WIDE "family=conditional-detr levels=1 encoder-layers=0 decoder-layers=1"},
    {DINO_STUDENT "encoder-layers=0 decoder-layers=1 training=1", DINO_WIDE "encoder-layers=0 decoder-layers=1"},
    {TINY_STUDENT ADAMIXER "decoder-layers=1", TINY_WIDE ADAMIXER "decoder-layers=1"}};

typedef struct scene {
    const family *models;
    dd_context *context;
    dd_model *student, *teacher;
    dd_distiller *distiller;
    pictures batch;
    char folder[64];
    uint64_t expected;
} scene;

static void begin(scene *s)
{
    s->context = new_context("device=ref");
    s->student = new_model(s->context, s->models->student, 5);
    s->teacher = new_model(s->context, s->models->teacher, 6);
    GOOD(dd_distiller_create(&s->distiller, s->context, OPTIONS));
}

static void end(scene *s)
{
    dd_distiller_free(s->distiller);
    dd_model_free(s->student);
    dd_model_free(s->teacher);
    dd_context_free(s->context);
}

static void empty(const char *folder)
{
    char path[512];
    DIR *stream = opendir(folder);
    assert_non_null(stream);
    for (const struct dirent *e; (e = readdir(stream));) {
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (e->d_name[0] != '.') {
            unlink(path);
        }
    }
    closedir(stream);
}

static uint64_t hash_step(scene *s)
{
    s->student->tape.step = 0; /* the same random numbers each time */
    GOOD(dd_model_zero_gradients(s->student));
    GOOD(dd_distiller_zero_gradients(s->distiller));
    GOOD(dd_distiller_step(s->distiller, NULL));
    const uint64_t terms = case_hash_terms(s->distiller);
    return hash_bytes(hash_model_gradients(s->student), &terms, sizeof terms);
}

static dd_status attach(scene *s)
{
    return CALL(dd_distiller_attach(s->distiller, s->student, s->teacher));
}

static dd_status step(scene *s)
{
    return CALL(dd_distiller_step(s->distiller, NULL));
}

static dd_status cached_step(scene *s)
{
    const dd_status status = CALL(dd_distiller_set_cache(s->distiller, s->folder, 1 << 30));
    return status == DD_OK ? CALL(dd_distiller_step(s->distiller, NULL)) : status;
}

/* Fails the n-th call of `attempt`, n = 1, 2, .. until none fails, and in a second mode all from the n-th on. Models and
 * distiller are new each time. */
static void sweep(scene *s, dd_status (*attempt)(scene *s), int32_t modes)
{
    for (int32_t for_good = 0; for_good < modes; for_good++) {
        for (int64_t n = 1;; n++) {
            begin(s);
            if (attempt != attach) {
                GOOD(attach(s));
                pictures_bind(&s->batch, s->distiller);
            }
            dd_fault_set(n, for_good);
            const dd_status status = attempt(s);
            const bool failed = dd_fault_set(0, 0) >= n;
            /* a file that cannot be read or written is computed anew */
            if (status != DD_OK && (!failed || (status != DD_ERR_NOMEM && status != DD_ERR_IO))) {
                fail_msg("call %lld: status %s, %s", (long long)n, dd_status_name(status), dd_error_message());
            }
            if (attempt == attach && status != DD_OK) {
                GOOD(attach(s));
            }
            pictures_bind(&s->batch, s->distiller);
            assert_true(hash_step(s) == s->expected);
            end(s);
            empty(s->folder);
            if (!failed) {
                break;
            }
        }
    }
}

/* Handles that have come and gone leave the table of handles at its full size, which is no leak. */
static void grow_handle_table(void)
{
    dd_eval *all[200];
    for (int i = 0; i < 200; i++) {
        GOOD(dd_eval_create(&all[i]));
    }
    for (int i = 0; i < 200; i++) {
        dd_eval_free(all[i]);
    }
}

static void every_call_fails(void **state)
{
    scene s;
    grow_handle_table();
    strcpy(s.folder, "/tmp/dd-oom-XXXXXX");
    assert_non_null(mkdtemp(s.folder));
    pictures_fill(&s.batch, 3);
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        s.models = &families[i];
        begin(&s);
        GOOD(attach(&s));
        pictures_bind(&s.batch, s.distiller);
        s.expected = hash_step(&s);
        end(&s);
        const int64_t before = ddi_default_allocator.live_blocks;
        sweep(&s, step, i == 0 ? 2 : 1);
        if (i == 0) { /* the same for all families */
            sweep(&s, attach, 1);
            sweep(&s, cached_step, 1);
        }
        assert_int_equal(ddi_default_allocator.live_blocks, before);
    }
    assert_int_equal(rmdir(s.folder), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_call_fails)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
