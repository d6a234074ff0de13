/* SPDX-License-Identifier: Apache-2.0
 * R34: eight threads at once: contexts of their own, one shared context, a handle that is handed over, one handle misused by
 * all, and handles freed while others run. Built with TSan this must be silent. */
#include "../distiller/case.h"
#include "../distiller/guard.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

enum { THREADS = 8, ROUNDS = 400 };

static case_sizes tiny(void)
{
    case_sizes s = case_small;
    s.student_stages = s.teacher_stages = 1;
    s.levels = 1;
    s.height = s.width = 3;
    return s;
}

static dd_context *shared;
static uint64_t expected;
static int32_t wrong; /* answers that no thread may get */

static void expect(bool good)
{
    if (!good)
        __atomic_add_fetch(&wrong, 1, __ATOMIC_RELAXED);
}

static void run_threads(void *(*work)(void *), void *user)
{
    pthread_t thread[THREADS];
    wrong = 0;
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, work, user), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    assert_int_equal(wrong, 0);
}

/* The message belongs to the thread: an error of another one is never seen. */
static uint64_t step_hash(dd_context *context, kd_case *c)
{
    dd_distiller *d = NULL;
    expect(dd_distiller_create(&d, context, "") == DD_OK && case_bind(c, d, true) == DD_OK);
    expect(dd_distiller_step(d, NULL) == DD_OK && dd_error_message()[0] == '\0');
    uint64_t hash = case_hash_terms(d) ^ case_hash_gradients(c);
    expect(dd_distiller_bind(d, "student.lgits", NULL) == DD_ERR_NOT_FOUND && strstr(dd_error_message(), "student.lgits"));
    dd_distiller_free(d);
    return hash;
}

static void *own_context(void *user)
{
    kd_case *c = case_make(tiny(), 5);
    for (int i = 0; i < ROUNDS; i++) {
        dd_context *context = NULL;
        expect(dd_context_create(&context, "device=ref") == DD_OK);
        expect(step_hash(context, c) == expected);
        dd_context_free(context);
        if (i % 3 == 0)
            sched_yield();
    }
    case_free(c);
    return NULL;
}

static void *shared_context(void *user)
{
    kd_case *c = case_make(tiny(), 5);
    for (int i = 0; i < ROUNDS; i++) {
        const char *text;
        int64_t bytes;
        expect(step_hash(shared, c) == expected);
        expect(dd_context_describe(shared, &text) == DD_OK);
        expect(dd_context_memory(shared, &bytes, NULL, NULL, NULL, NULL) == DD_OK);
    }
    case_free(c);
    return NULL;
}

static void contexts_of_their_own(void **state)
{
    run_threads(own_context, NULL);
}

static void one_context_for_all(void **state)
{
    run_threads(shared_context, NULL);
}

/* One distiller goes round; each thread uses it in its turn. */
typedef struct baton {
    pthread_mutex_t lock;
    dd_distiller *distiller;
    kd_case *data;
} baton;

static void *take_turns(void *user)
{
    baton *b = user;
    for (int i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&b->lock);
        expect(dd_distiller_step(b->distiller, NULL) == DD_OK);
        expect((case_hash_terms(b->distiller) ^ case_hash_gradients(b->data)) == expected);
        pthread_mutex_unlock(&b->lock);
    }
    return NULL;
}

static baton make_baton(void)
{
    baton b = {.lock = PTHREAD_MUTEX_INITIALIZER, .data = case_make(tiny(), 5)};
    GOOD(dd_distiller_create(&b.distiller, shared, ""));
    assert_int_equal(case_bind(b.data, b.distiller, true), DD_OK);
    return b;
}

static void a_handle_handed_over(void **state)
{
    baton b = make_baton();
    run_threads(take_turns, &b);
    dd_distiller_free(b.distiller);
    case_free(b.data);
}

static int32_t good_steps, refused_steps;

static void *misuse(void *user)
{
    baton *b = user;
    for (int i = 0; i < ROUNDS; i++) {
        double value;
        dd_status status =
            i % 4 ? dd_distiller_step(b->distiller, NULL) : dd_distiller_term_get(b->distiller, "loss.total", &value);
        expect(status == DD_OK || status == DD_ERR_STATE);
        expect((status == DD_OK) == (dd_error_message()[0] == '\0'));
        __atomic_add_fetch(status == DD_OK ? &good_steps : &refused_steps, 1, __ATOMIC_RELAXED);
        expect(dd_distiller_set_weight(b->distiller, "det", 1) != DD_ERR_ARGUMENT);
    }
    return NULL;
}

static int32_t refuse_inside(void *user, double *values, int32_t count)
{
    for (int i = 0; i < 20; i++)
        sched_yield(); /* others meet the handle in use */
    return 0;
}

static void one_handle_misused_by_all(void **state)
{
    baton b = make_baton();
    GOOD(dd_distiller_set_mean(b.distiller, refuse_inside, NULL));
    GOOD(dd_distiller_step(b.distiller, NULL));
    good_steps = refused_steps = 0;
    run_threads(misuse, &b);
    assert_true(good_steps > 0 && refused_steps > 0);
    GOOD(dd_distiller_step(b.distiller, NULL));
    assert_true((case_hash_terms(b.distiller) ^ case_hash_gradients(b.data)) == expected);
    dd_distiller_free(b.distiller);
    case_free(b.data);
}

/* All threads step one handle and one of them frees it: each answer is OK, STATE or ARGUMENT, and nothing is lost. */
static void *free_while_running(void *user)
{
    baton *b = user;
    for (int i = 0;; i++) {
        dd_status status = dd_distiller_step(b->distiller, NULL);
        expect(status == DD_OK || status == DD_ERR_STATE || status == DD_ERR_ARGUMENT);
        if (status == DD_ERR_ARGUMENT)
            return NULL;
        if (i == 3)
            dd_distiller_free(b->distiller);
    }
}

static void freed_while_others_run(void **state)
{
    int64_t before, after;
    GOOD(dd_context_memory(shared, &before, NULL, NULL, NULL, NULL));
    for (int i = 0; i < 60; i++) {
        baton b = make_baton();
        run_threads(free_while_running, &b);
        case_free(b.data);
    }
    GOOD(dd_context_memory(shared, &after, NULL, NULL, NULL, NULL));
    assert_int_equal(before, after);
}

/* The context goes first, under running steps: children keep it alive. */
static void *step_on_user_context(void *user)
{
    dd_context *context = *(dd_context **)user;
    kd_case *c = case_make(tiny(), 5);
    for (int i = 0; i < 20; i++) {
        dd_distiller *d = NULL;
        dd_status status = dd_distiller_create(&d, context, "");
        expect(status == DD_OK || status == DD_ERR_ARGUMENT);
        if (status != DD_OK)
            break;
        if (i == 2)
            dd_context_free(context);
        expect(case_bind(c, d, true) == DD_OK && dd_distiller_step(d, NULL) == DD_OK);
        expect((case_hash_terms(d) ^ case_hash_gradients(c)) == expected);
        dd_distiller_free(d);
    }
    case_free(c);
    return NULL;
}

static void context_freed_first(void **state)
{
    for (int i = 0; i < 40; i++) {
        dd_context *context;
        GOOD(dd_context_create(&context, "device=ref"));
        run_threads(step_on_user_context, &context);
    }
}

static void count_line(void *user, int32_t level, const char *line)
{
    __atomic_add_fetch((int32_t *)user, 1, __ATOMIC_RELAXED);
}

static void *change_settings(void *user)
{
    kd_case *c = case_make(tiny(), 5);
    for (int i = 0; i < ROUNDS / 2; i++) {
        expect(dd_context_set_log(shared, i % 2 ? count_line : NULL, user, i % 4) == DD_OK);
        dd_context_cancel(shared, 0);
        expect(step_hash(shared, c) == expected);
    }
    case_free(c);
    return NULL;
}

static void log_set_by_all(void **state)
{
    int32_t lines = 0;
    run_threads(change_settings, &lines);
    GOOD(dd_context_set_log(shared, NULL, NULL, DD_LOG_ERROR));
}

static void *assign_and_evaluate(void *user)
{
    uint64_t random = 17;
    for (int i = 0; i < ROUNDS; i++) {
        float cost[40 * 30];
        int32_t match[40];
        double total, numbers[12];
        const int64_t label = 1;
        const double box[4] = {1, 2, 30, 40}, score = .5;
        dd_eval *eval = NULL;
        for (int k = 0; k < 1200; k++)
            cost[k] = (float)next_random(&random);
        expect(dd_assign_f32(cost, 40, 30, 30, 1, match, &total) == DD_OK && total > 0 && total < 30);
        expect(dd_eval_create(&eval) == DD_OK && dd_eval_add_objects(eval, 1, 1, box, &label, NULL, NULL) == DD_OK);
        expect(dd_eval_add_detections(eval, 1, 1, box, &label, &score) == DD_OK && dd_eval_finish(eval, numbers) == DD_OK);
        expect(numbers[0] > .99);
        dd_eval_free(eval);
    }
    return NULL;
}

static void bare_functions(void **state)
{
    run_threads(assign_and_evaluate, NULL);
}

static int open_shared(void **state)
{
    kd_case *c = case_make(tiny(), 5);
    if (dd_context_create(&shared, "device=ref") != DD_OK)
        return -1;
    expected = step_hash(shared, c);
    case_free(c);
    return 0;
}

static int close_shared(void **state)
{
    dd_context_free(shared);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contexts_of_their_own),  cmocka_unit_test(one_context_for_all),
        cmocka_unit_test(a_handle_handed_over),   cmocka_unit_test(one_handle_misused_by_all),
        cmocka_unit_test(freed_while_others_run), cmocka_unit_test(context_freed_first),
        cmocka_unit_test(log_set_by_all),         cmocka_unit_test(bare_functions),
    };
    return cmocka_run_group_tests(tests, open_shared, close_shared);
}
