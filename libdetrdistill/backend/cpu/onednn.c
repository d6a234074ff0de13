/* SPDX-License-Identifier: Apache-2.0
 * Matrix products by oneDNN. Every part of a product is a primitive of its own that runs on one thread; primitives are kept
 * by shape, the least recently used goes first. */
#include "backend/cpu/onednn.h"
#include "backend/cpu/matmul_grid.h"

#include <oneapi/dnnl/dnnl.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

enum { CACHE_ENTRIES = 64, PART_SHAPES = 4 };

/* No padding: compared as bytes. */
typedef struct part_shape {
    int64_t rows, columns, K, lda, ldb, ldc;
    int32_t trans_a, trans_b;
    int32_t bias; /* one per column */
    int32_t add;  /* to what is there */
} part_shape;

typedef struct entry {
    part_shape shape;
    dnnl_memory_desc_t a, b, c, bias, scratch;
    dnnl_primitive_t primitive; /* NULL: free */
    size_t scratch_bytes;
    uint64_t last_use;
    int32_t users; /* calls that run it now */
} entry;

/* One for the process: there is one CPU device. */
static struct matmul_cache {
    pthread_mutex_t lock; /* of all below */
    dnnl_engine_t engine; /* NULL: closed */
    int64_t opened;
    uint64_t clock;
    entry entries[CACHE_ENTRIES];
} cache = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Frees what an entry holds, also where it was made in part. */
static void clear_entry(entry *e)
{
    dnnl_memory_desc_t desc[] = {e->a, e->b, e->c, e->bias, e->scratch};
    for (size_t i = 0; i < sizeof desc / sizeof desc[0]; i++) {
        if (desc[i]) {
            dnnl_memory_desc_destroy(desc[i]);
        }
    }
    if (e->primitive) {
        dnnl_primitive_destroy(e->primitive);
    }
    memset(e, 0, sizeof *e);
}

dd_status cpu_onednn_open(void)
{
    pthread_mutex_lock(&cache.lock);
    const bool good = cache.engine || dnnl_engine_create(&cache.engine, dnnl_cpu, 0) == dnnl_success;
    cache.opened += good;
    pthread_mutex_unlock(&cache.lock);
    return good ? DD_OK : DD_ERR_BACKEND;
}

void cpu_onednn_close(void)
{
    pthread_mutex_lock(&cache.lock);
    if (--cache.opened == 0) {
        for (int i = 0; i < CACHE_ENTRIES; i++) {
            clear_entry(&cache.entries[i]);
        }
        dnnl_engine_destroy(cache.engine);
        cache.engine = NULL;
    }
    pthread_mutex_unlock(&cache.lock);
}

static bool describe(dnnl_memory_desc_t *desc, int64_t rows, int64_t columns, int64_t row_stride, int64_t column_stride)
{
    const dnnl_dims_t dims = {rows, columns}, strides = {row_stride, column_stride};
    return dnnl_memory_desc_create_with_strides(desc, 2, dims, dnnl_f32, strides) == dnnl_success;
}

static bool describe_part(entry *e, const part_shape *s)
{
    return describe(&e->a, s->rows, s->K, s->trans_a ? 1 : s->lda, s->trans_a ? s->lda : 1) &&
           describe(&e->b, s->K, s->columns, s->trans_b ? 1 : s->ldb, s->trans_b ? s->ldb : 1) &&
           describe(&e->c, s->rows, s->columns, s->ldc, 1) && (!s->bias || describe(&e->bias, 1, s->columns, s->columns, 1));
}

/* Scratch memory is ours, so that one primitive may run on several threads at once. */
static bool set_attributes(dnnl_primitive_attr_t attributes, dnnl_post_ops_t after, bool add)
{
    return dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user) == dnnl_success &&
           (!add || (dnnl_post_ops_append_sum(after, 1, 0, dnnl_data_type_undef) == dnnl_success &&
                     dnnl_primitive_attr_set_post_ops(attributes, after) == dnnl_success));
}

static bool keep_scratch_size(entry *e, const_dnnl_primitive_desc_t plan)
{
    const_dnnl_memory_desc_t scratch = dnnl_primitive_desc_query_md(plan, dnnl_query_scratchpad_md, 0);
    e->scratch_bytes = scratch ? dnnl_memory_desc_get_size(scratch) : 0;
    return !scratch || dnnl_memory_desc_clone(&e->scratch, scratch) == dnnl_success;
}

/* oneDNN plans for as many threads as it may use when it is asked: one, inside cpu_parallel_for. */
static bool make_entry(const part_shape *shape, entry *e)
{
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_post_ops_t after = NULL;
    dnnl_primitive_desc_t plan = NULL;
    memset(e, 0, sizeof *e);
    e->shape = *shape;
    const bool made =
        describe_part(e, shape) && dnnl_primitive_attr_create(&attributes) == dnnl_success &&
        dnnl_post_ops_create(&after) == dnnl_success && set_attributes(attributes, after, shape->add) &&
        dnnl_matmul_primitive_desc_create(&plan, cache.engine, e->a, e->b, e->bias, e->c, attributes) == dnnl_success &&
        keep_scratch_size(e, plan) && dnnl_primitive_create(&e->primitive, plan) == dnnl_success;
    if (plan) {
        dnnl_primitive_desc_destroy(plan);
    }
    if (after) {
        dnnl_post_ops_destroy(after);
    }
    if (attributes) {
        dnnl_primitive_attr_destroy(attributes);
    }
    if (!made) {
        clear_entry(e);
    }
    return made;
}

/* The entry of a shape, in use; NULL: not to be had, try another kernel. Called with the lock held. */
static entry *find_entry(const part_shape *shape)
{
    entry *oldest = NULL;
    for (int i = 0; i < CACHE_ENTRIES; i++) {
        entry *e = &cache.entries[i];
        if (e->primitive && memcmp(&e->shape, shape, sizeof *shape) == 0) {
            return e;
        }
        if (e->users == 0 && (!oldest || e->last_use < oldest->last_use)) {
            oldest = e;
        }
    }
    if (oldest) {
        clear_entry(oldest);
        oldest = make_entry(shape, oldest) ? oldest : NULL;
    }
    return oldest;
}

typedef struct matmul_job {
    const dd_op_matmul *op;
    matmul_grid grid;
    entry *entry[PART_SHAPES]; /* whole parts, then those of the last rows, columns, both */
    unsigned char *scratch;    /* of each part */
    size_t scratch_bytes;
    int32_t failed; /* atomic */
} matmul_job;

static part_shape shape_of(const dd_op_matmul *op, const matmul_grid *g, int kind)
{
    const int64_t last_rows = op->M - (g->row_parts - 1) * g->rows, last_columns = op->N - (g->column_parts - 1) * g->columns;
    part_shape s;
    memset(&s, 0, sizeof s);
    s.rows = kind & 1 || g->row_parts == 1 ? last_rows : g->rows;
    s.columns = kind & 2 || g->column_parts == 1 ? last_columns : g->columns;
    s.K = op->K;
    s.lda = op->lda;
    s.ldb = op->ldb;
    s.ldc = op->ldc;
    s.trans_a = op->trans_a != 0;
    s.trans_b = op->trans_b != 0;
    s.bias = op->bias && !op->bias_rows;
    s.add = op->beta == 1 || (op->bias && op->bias_rows);
    return s;
}

static void take_entries(void *arg, int64_t unused)
{
    matmul_job *job = arg;
    pthread_mutex_lock(&cache.lock);
    for (int kind = 0; kind < PART_SHAPES; kind++) {
        const part_shape shape = shape_of(job->op, &job->grid, kind);
        entry *e = find_entry(&shape);
        if (e) {
            e->users++;
            e->last_use = ++cache.clock;
            job->scratch_bytes = e->scratch_bytes > job->scratch_bytes ? e->scratch_bytes : job->scratch_bytes;
        }
        job->failed |= !e;
        job->entry[kind] = e;
    }
    pthread_mutex_unlock(&cache.lock);
}

static void give_back_entries(matmul_job *job)
{
    pthread_mutex_lock(&cache.lock);
    for (int kind = 0; kind < PART_SHAPES; kind++) {
        if (job->entry[kind]) {
            job->entry[kind]->users--;
        }
    }
    pthread_mutex_unlock(&cache.lock);
}

/* Wraps caller's memory for one call. */
static bool wrap(dnnl_exec_arg_t *arg, int id, const_dnnl_memory_desc_t desc, const void *memory)
{
    arg->arg = id;
    arg->memory = NULL;
    return dnnl_memory_create(&arg->memory, desc, cache.engine, (void *)(uintptr_t)memory) == dnnl_success;
}

/* A bias for each row goes into C before the product: oneDNN has only its slow reference kernel for one. */
static void start_from_row_bias(const dd_op_matmul *op, const matmul_part *p)
{
    for (int64_t m = 0; m < p->rows; m++) {
        float *row = (float *)op->c + part_of_c(op, p) + m * op->ldc;
        const float add = ((const float *)op->bias)[p->m + m];
        for (int64_t n = 0; n < p->columns; n++) {
            row[n] = op->beta == 0 ? add : row[n] + add;
        }
    }
}

static bool run_part(const matmul_job *job, const entry *e, const matmul_part *p, void *scratch)
{
    const dd_op_matmul *op = job->op;
    dnnl_exec_arg_t arg[5] = {{0, NULL}};
    dnnl_stream_t stream = NULL;
    int count = 3;
    bool good = wrap(&arg[0], DNNL_ARG_SRC, e->a, (const float *)op->a + part_of_a(op, p)) &&
                wrap(&arg[1], DNNL_ARG_WEIGHTS, e->b, (const float *)op->b + part_of_b(op, p)) &&
                wrap(&arg[2], DNNL_ARG_DST, e->c, (const float *)op->c + part_of_c(op, p));
    if (op->bias && op->bias_rows) {
        start_from_row_bias(op, p);
    } else if (good && op->bias) {
        good = wrap(&arg[count++], DNNL_ARG_BIAS, e->bias, (const float *)op->bias + p->n);
    }
    if (good && e->scratch) {
        good = wrap(&arg[count++], DNNL_ARG_SCRATCHPAD, e->scratch, scratch);
    }
    good = good && dnnl_stream_create(&stream, cache.engine, dnnl_stream_in_order) == dnnl_success &&
           dnnl_primitive_execute(e->primitive, stream, count, arg) == dnnl_success && dnnl_stream_wait(stream) == dnnl_success;
    if (stream) {
        dnnl_stream_destroy(stream);
    }
    for (int i = 0; i < count; i++) {
        if (arg[i].memory) {
            dnnl_memory_destroy(arg[i].memory);
        }
    }
    return good;
}

static void matmul_part_of(void *arg, int64_t k)
{
    matmul_job *job = arg;
    const matmul_part p = part_of(job->op, &job->grid, k);
    const int kind = (p.rows < job->grid.rows) + 2 * (p.columns < job->grid.columns);
    if (!run_part(job, job->entry[kind], &p, job->scratch + (size_t)k * job->scratch_bytes)) {
        __atomic_store_n(&job->failed, 1, __ATOMIC_RELAXED);
    }
}

static dd_status run_parts(dd_exec *exec, matmul_job *job)
{
    if (job->failed) {
        return exec->fail(exec, DD_ERR_BACKEND, "oneDNN could not make a matrix product");
    }
    job->scratch_bytes = (job->scratch_bytes + 63) / 64 * 64;
    job->scratch = exec->scratch(exec, (size_t)job->grid.parts * job->scratch_bytes + 1);
    if (!job->scratch) {
        return DD_ERR_NOMEM;
    }
    cpu_parallel_for(exec->threads, job->grid.parts, matmul_part_of, job);
    return job->failed ? exec->fail(exec, DD_ERR_BACKEND, "oneDNN could not run a matrix product") : DD_OK;
}

/* Our own kernel is twice as fast on long sums over a transposed B (gradients of weights). */
int32_t cpu_onednn_accepts(const void *args)
{
    const dd_op_matmul *op = args;
    return op->alpha == 1 && (op->beta == 0 || op->beta == 1) && op->K > 0 && !(op->trans_b && op->K >= 2048);
}

dd_status cpu_onednn_matmul(dd_exec *exec, const void *args)
{
    const dd_op_matmul *op = args;
    if (op->batch == 0 || op->M == 0 || op->N == 0) {
        return DD_OK;
    }
    matmul_job job = {.op = op, .grid = grid_of(op)};
    cpu_parallel_for(1, 1, take_entries, &job);
    const dd_status status = run_parts(exec, &job);
    give_back_entries(&job);
    return status;
}
