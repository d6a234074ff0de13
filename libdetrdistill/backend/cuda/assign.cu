/* SPDX-License-Identifier: Apache-2.0
 * Exact assignment on the device: one thread block solves one cost block by shortest augmenting paths in double, after the
 * reductions of Jonker and Volgenant. "Agents" are the shorter side: each gets a target. Thread t owns the targets t, t +
 * blockDim.x, ..; the arrays over targets are written by their owners alone, except where a barrier says otherwise. Ties go
 * to free targets first, then to the lowest number, so the result is the same at every run. */
#include "block.cuh"
#include "device.cuh"

#include <limits.h>
#include <string.h>

namespace {
constexpr int MOST_THREADS = 1024;
constexpr int64_t MOST_SHARED = 44 * 1024; /* bytes for a problem's arrays; larger ones live in device memory */
constexpr int REDUCTION_PASSES = 2;
constexpr uint32_t OWNED = 0x80000000u; /* of a target's code: above every free one */

template <class T> struct problem {
    const T *cost;
    int64_t agent_step, target_step;     /* from one to the next, in elements of cost */
    int32_t agents, targets;             /* used ones; they count from 0 */
    const int32_t *agent_at, *target_at; /* their numbers in the block */
    double *dual;                        /* [targets] never above 0 where not all targets are taken */
    double *distance;                    /* [targets] of the shortest path found so far */
    int32_t *from;                       /* [targets] the agent before it on that path */
    int32_t *owner;                      /* [targets] agent or -1 */
    int32_t *partner;                    /* [agents] target or -1 */
    int32_t *waiting;                    /* [agents] those without one */
    uint8_t *settled;                    /* [targets] */

    __device__ double operator()(int32_t agent, int32_t target) const
    {
        return (double)cost[agent_at[agent] * agent_step + target_at[target] * target_step];
    }
    __device__ double reduced(int32_t agent, int32_t target) const
    {
        return (*this)(agent, target) - dual[target];
    }
    __device__ uint32_t code(int32_t target) const
    {
        return (owner[target] >= 0 ? OWNED : 0) | (uint32_t)target;
    }
};

/* Bytes of a problem's arrays with at most m rows or columns: 2 of double, 6 of int32, 1 of bytes. */
__host__ __device__ inline int64_t bytes_for(int64_t m)
{
    return (m * (2 * 8 + 6 * 4 + 1) + 15) / 16 * 16;
}

/* A value and who has it. The lower value wins, then the lower code. */
struct candidate {
    double value;
    uint32_t code;
};

__device__ inline candidate nobody()
{
    return {INFINITY, ~0u};
}

__device__ inline bool better(candidate a, candidate b)
{
    return a.value < b.value || (a.value == b.value && a.code < b.code);
}

/* Doubles as unsigned numbers of the same order, and back. */
__device__ inline uint64_t ordered(double x)
{
    uint64_t bits;
    x = x == 0 ? 0 : x;
    memcpy(&bits, &x, sizeof bits);
    return bits >> 63 ? ~bits : bits | (uint64_t)1 << 63;
}

__device__ inline double from_ordered(uint64_t bits)
{
    double x;
    bits = bits >> 63 ? bits & ~((uint64_t)1 << 63) : ~bits;
    memcpy(&x, &bits, sizeof x);
    return x;
}

__device__ inline candidate warp_best(candidate mine)
{
    uint64_t key = ordered(mine.value);
    uint32_t high = (uint32_t)(key >> 32), low = (uint32_t)key;
    uint32_t best_high = __reduce_min_sync(ALL_LANES, high);
    uint32_t best_low = __reduce_min_sync(ALL_LANES, high == best_high ? low : ~0u);
    uint32_t best_code = __reduce_min_sync(ALL_LANES, high == best_high && low == best_low ? mine.code : ~0u);
    return {from_ordered((uint64_t)best_high << 32 | best_low), best_code};
}

/* Best candidate of the block; every thread gets it. One barrier: calls alternate between two buffers. */
__device__ candidate block_best(candidate mine, int *turn)
{
    __shared__ candidate part[2][WARP];
    int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, warps = blockDim.x / WARP;
    candidate *buffer = part[ *turn ^= 1];
    mine = warp_best(mine);
    if (lane == 0)
        buffer[warp] = mine;
    __syncthreads();
    return warp_best(lane < warps ? buffer[lane] : nobody());
}

/* list = numbers below count that `keep` says yes to, in order; by the first warp. Returns how many, to the whole block. */
template <class Keep> __device__ int32_t list_numbers(int32_t count, int32_t *list, Keep keep)
{
    __shared__ int32_t total;
    __syncthreads();
    if (threadIdx.x < WARP) {
        int32_t listed = 0;
        for (int32_t first = 0; first < count; first += WARP) {
            int32_t i = first + (int32_t)threadIdx.x;
            bool kept = i < count && keep(i);
            unsigned lanes = __ballot_sync(ALL_LANES, kept);
            if (kept)
                list[listed + __popc(lanes & ((1u << threadIdx.x) - 1))] = i;
            listed += __popc(lanes);
        }
        if (threadIdx.x == 0)
            total = listed;
    }
    __syncthreads();
    return total;
}

/* Lays the arrays out in `memory` and chooses which side the agents are. Returns 1 if the rows are. */
template <class T>
__device__ bool set_up(problem<T> *p, const dd_op_assign &a, const dd_assign_block &block, const T *transposed,
                       unsigned char *memory)
{
    int64_t m = a.max_rows > a.max_cols ? a.max_rows : a.max_cols;
    p->dual = (double *)memory;
    p->distance = p->dual + m;
    p->from = (int32_t *)(p->distance + m);
    p->owner = p->from + m;
    p->partner = p->owner + m;
    p->waiting = p->partner + m;
    int32_t *rows = p->waiting + m, *columns = rows + m;
    p->settled = (uint8_t *)(columns + m);

    const uint8_t *row_use = a.row_use ? a.row_use + block.row_offset : NULL;
    const uint8_t *col_use = a.col_use ? a.col_use + block.col_offset : NULL;
    int32_t used_rows = list_numbers(block.rows, rows, [row_use](int32_t i) { return !row_use || row_use[i]; });
    int32_t used_columns = list_numbers(block.cols, columns, [col_use](int32_t j) { return !col_use || col_use[j]; });
    bool by_rows = used_rows <= used_columns;
    p->agents = by_rows ? used_rows : used_columns;
    p->targets = by_rows ? used_columns : used_rows;
    p->agent_at = by_rows ? rows : columns;
    p->target_at = by_rows ? columns : rows;
    /* Neighbouring threads have neighbouring targets: read the copy where those lie side by side. */
    bool copied = !by_rows && transposed && block.rows > block.cols;
    p->cost = (copied ? transposed : (const T *)a.cost) + block.cost_offset;
    p->agent_step = by_rows ? block.cols : copied ? block.rows : 1;
    p->target_step = by_rows || copied ? 1 : block.cols;
    return by_rows;
}

/* Start: dual = column minima if every target gets an agent, else 0; then each agent asks for its cheapest target, and the
 * lowest agent that asks gets it. */
template <class T> __device__ void reduce(problem<T> &p)
{
    int32_t threads = blockDim.x, warps = threads / WARP, warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    for (int32_t j = threadIdx.x; j < p.targets; j += threads) {
        double lowest = p.agents == p.targets ? p(0, j) : 0;
        for (int32_t i = 1; p.agents == p.targets && i < p.agents; ++i)
            lowest = fmin(lowest, p(i, j));
        p.dual[j] = lowest;
        p.owner[j] = INT_MAX;
    }
    __syncthreads();
    for (int32_t i = warp; i < p.agents; i += warps) {
        candidate best = nobody();
        for (int32_t j = lane; j < p.targets; j += WARP) {
            candidate other = {p.reduced(i, j), (uint32_t)j};
            best = better(other, best) ? other : best;
        }
        best = warp_best(best);
        if (lane == 0) {
            p.partner[i] = (int32_t)best.code;
            atomicMin(&p.owner[best.code], i);
        }
    }
    __syncthreads();
    for (int32_t i = threadIdx.x; i < p.agents; i += threads) {
        if (p.owner[p.partner[i]] != i)
            p.partner[i] = -1;
    }
    __syncthreads();
    for (int32_t j = threadIdx.x; j < p.targets; j += threads)
        p.owner[j] = p.owner[j] == INT_MAX ? -1 : p.owner[j];
    __syncthreads();
}

template <class T> __device__ int32_t list_waiting(problem<T> &p)
{
    const int32_t *partner = p.partner;
    return list_numbers(p.agents, p.waiting, [partner](int32_t i) { return partner[i] < 0; });
}

/* Agent i takes its best target, whose dual falls until the second best is as good. Returns the agent that lost the target,
 * or -1: nobody did, or the two are equally good and taken, which is left to the search for paths. */
template <class T> __device__ int32_t take_best(problem<T> &p, int32_t i, int *turn)
{
    candidate best = nobody(), second = nobody();
    for (int32_t j = threadIdx.x; j < p.targets; j += blockDim.x) {
        candidate other = {p.reduced(i, j), p.code(j)};
        if (better(other, best)) {
            second = best;
            best = other;
        } else if (better(other, second)) {
            second = other;
        }
    }
    candidate first = block_best(best, turn);
    double next_value = block_best(best.code == first.code ? second : best, turn).value;
    int32_t j = (int32_t)(first.code & ~OWNED), loser = p.owner[j];
    if (loser >= 0 && !(first.value < next_value))
        return -1;
    __syncthreads();
    if (threadIdx.x == 0) {
        p.dual[j] -= next_value - first.value;
        p.owner[j] = i;
        p.partner[i] = j;
        if (loser >= 0)
            p.partner[loser] = -1;
    }
    __syncthreads();
    return loser;
}

/* Each waiting agent takes its best target, who loses it goes on at once. Bounded: close prices can go on for long. */
template <class T> __device__ void reduce_by_taking(problem<T> &p, int *turn)
{
    int32_t budget = 2 * p.agents;
    for (int pass = 0; pass < REDUCTION_PASSES; ++pass) {
        int32_t waiting = list_waiting(p);
        for (int32_t k = 0; k < waiting && budget > 0; ++k) {
            for (int32_t i = p.waiting[k]; i >= 0 && budget > 0; --budget)
                i = take_best(p, i, turn);
        }
    }
}

/* Shortest path from agent i to a free target (Dijkstra on reduced costs); the duals and the pairs along it are changed. */
template <class T> __device__ void add_by_path(problem<T> &p, int32_t start, int *turn)
{
    for (int32_t j = threadIdx.x; j < p.targets; j += blockDim.x) {
        p.distance[j] = p.reduced(start, j);
        p.from[j] = start;
        p.settled[j] = 0;
    }
    candidate nearest;
    int32_t target;
    for (;;) {
        candidate best = nobody();
        for (int32_t j = threadIdx.x; j < p.targets; j += blockDim.x) {
            candidate other = {p.distance[j], p.code(j)};
            if (!p.settled[j] && better(other, best))
                best = other;
        }
        nearest = block_best(best, turn);
        target = (int32_t)(nearest.code & ~OWNED);
        int32_t agent = p.owner[target];
        if (agent < 0)
            break;
        double base = p.reduced(agent, target) - nearest.value;
        for (int32_t j = threadIdx.x; j < p.targets; j += blockDim.x) {
            if (j == target)
                p.settled[j] = 1;
            if (p.settled[j])
                continue;
            double length = p.reduced(agent, j) - base;
            if (length < p.distance[j]) {
                p.distance[j] = length;
                p.from[j] = agent;
            }
        }
    }
    __syncthreads(); /* duals are read by all until here */
    for (int32_t j = threadIdx.x; j < p.targets; j += blockDim.x) {
        if (p.settled[j])
            p.dual[j] += p.distance[j] - nearest.value;
    }
    if (threadIdx.x == 0) {
        for (int32_t agent = -1; agent != start;) {
            agent = p.from[target];
            p.owner[target] = agent;
            int32_t next = p.partner[agent];
            p.partner[agent] = target;
            target = next;
        }
    }
    __syncthreads();
}

template <class T>
__device__ void write_result(const problem<T> &p, const dd_op_assign &a, const dd_assign_block &block, bool by_rows,
                             double *total)
{
    int32_t *match = a.match + (a.by_columns ? block.col_offset : block.row_offset);
    for (int32_t i = threadIdx.x; i < (a.by_columns ? block.cols : block.rows); i += blockDim.x)
        match[i] = -1;
    __syncthreads();
    for (int32_t i = threadIdx.x; i < p.agents; i += blockDim.x) {
        int32_t agent = p.agent_at[i], target = p.target_at[p.partner[i]];
        int32_t row = by_rows ? agent : target, column = by_rows ? target : agent;
        match[a.by_columns ? column : row] = a.by_columns ? row : column;
    }
    if (threadIdx.x < WARP) {
        double sum = 0;
        for (int32_t i = threadIdx.x; i < p.agents; i += WARP)
            sum += p(i, p.partner[i]);
        sum = warp_sum(sum);
        if (threadIdx.x == 0)
            *total = sum;
    }
    __syncthreads();
}

template <class T>
__global__ void __launch_bounds__(MOST_THREADS) assign(dd_op_assign a, const T *transposed, unsigned char *spill, int64_t bytes)
{
    DD_DYNAMIC_SHARED(shared);
    int turn = 0;
    for (int64_t k = blockIdx.x; k < a.blocks; k += gridDim.x) {
        dd_assign_block block = a.block[k];
        problem<T> p;
        bool by_rows = set_up(&p, a, block, transposed, spill ? spill + k * bytes : shared);
        if (p.agents > 0) {
            reduce(p);
            reduce_by_taking(p, &turn);
            int32_t waiting = list_waiting(p);
            for (int32_t i = 0; i < waiting; ++i)
                add_by_path(p, p.waiting[i], &turn);
        }
        write_result(p, a, block, by_rows, a.total + k);
    }
}

/* to[cost_offset + j*rows + i] = cost[cost_offset + i*cols + j] for the blocks that have more rows. */
template <class T> __global__ void transpose(dd_op_assign a, T *to, int64_t tiles)
{
    __shared__ T square[TILE][TILE + 1];
    int x = threadIdx.x % TILE;
    for (int64_t item = blockIdx.x; item < a.blocks * tiles; item += gridDim.x) {
        dd_assign_block block = a.block[item / tiles];
        int32_t across = (block.cols + TILE - 1) / TILE, tile = (int32_t)(item % tiles);
        if (block.rows <= block.cols || tile >= across * ((block.rows + TILE - 1) / TILE))
            continue;
        int32_t i0 = tile / across * TILE, j0 = tile % across * TILE;
        __syncthreads();
        for (int y = threadIdx.x / TILE; y < TILE; y += ROWS) {
            if (i0 + y < block.rows && j0 + x < block.cols)
                square[y][x] = ((const T *)a.cost)[block.cost_offset + (int64_t)(i0 + y) * block.cols + j0 + x];
        }
        __syncthreads();
        for (int y = threadIdx.x / TILE; y < TILE; y += ROWS) {
            if (j0 + y < block.cols && i0 + x < block.rows)
                to[block.cost_offset + (int64_t)(j0 + y) * block.rows + i0 + x] = square[x][y];
        }
    }
}

__global__ void split_masks(dd_op_split_masks a)
{
    int64_t blocks = (int64_t)a.n_pairs * a.B, width = a.NS > a.NT ? a.NS : a.NT;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < blocks * width; i += (int64_t)gridDim.x * THREADS) {
        int64_t block = i / width, query = i % width, student = block * a.NS + query;
        if (a.step == 2 && query < a.NS) {
            int32_t kind = a.match[student] >= 0 ? 1 : a.match2[student] >= 0 ? 2 : 0;
            a.kind[student] = kind;
            if (kind == 2)
                a.match[student] = a.match2[student];
        }
        if (a.step != 2 && query < a.NS)
            a.row_use[student] = a.step == 0 || a.match[student] < 0;
        if (a.step != 2 && query < a.NT) {
            int64_t teacher = (a.pairs[2 * (block / a.B) + 1] * (int64_t)a.B + block % a.B) * a.NT + query;
            a.col_use[block * a.NT + query] = (a.t_match[teacher] >= 0) == (a.step == 0);
        }
    }
}
} // namespace

/* The transposed copy, or NULL where no block needs it. */
template <class T> static dd_status ddc_assign_transposed(dd_exec *exec, const dd_op_assign &a, T **copy)
{
    int64_t span = 0, tiles = 0;
    for (int32_t k = 0; k < a.blocks; ++k) {
        const dd_assign_block &block = a.host_block[k];
        int64_t end = block.cost_offset + (int64_t)block.rows * block.cols;
        int64_t own = (int64_t)((block.rows + TILE - 1) / TILE) * ((block.cols + TILE - 1) / TILE);
        if (block.rows > block.cols && block.cols > 0) {
            span = end > span ? end : span;
            tiles = own > tiles ? own : tiles;
        }
    }
    *copy = NULL;
    if (span == 0)
        return DD_OK;
    DDC_TRY(ddc_scratch(exec, span, copy));
    DDC_LAUNCH((transpose<T>), ddc_blocks(a.blocks * tiles), THREADS, 0, a, *copy, tiles);
    return DD_OK;
}

template <class T> dd_status ddc_assign(dd_exec *exec, const void *arguments)
{
    DDC_BEGIN(dd_op_assign);
    int64_t most = a.max_rows > a.max_cols ? a.max_rows : a.max_cols, bytes = bytes_for(most);
    int64_t threads = (most + WARP - 1) / WARP * WARP;
    threads = threads < 2 * WARP ? 2 * WARP : threads < MOST_THREADS ? threads : MOST_THREADS;
    bool in_shared = bytes <= MOST_SHARED;
    unsigned char *spill = NULL;
    T *transposed;
    if (!in_shared)
        DDC_TRY(ddc_scratch(exec, bytes * a.blocks, &spill));
    DDC_TRY(ddc_assign_transposed(exec, a, &transposed));
    DDC_LAUNCH((assign<T>), ddc_blocks(a.blocks), (unsigned)threads, in_shared ? (size_t)bytes : 0, a, (const T *)transposed,
               spill, bytes);
    return DD_OK;
}

template <class T> dd_status ddc_split_masks(dd_exec *exec, const void *arguments)
{
    DDC_BEGIN(dd_op_split_masks);
    int64_t width = a.NS > a.NT ? a.NS : a.NT;
    DDC_LAUNCH(split_masks, ddc_blocks(a.n_pairs * a.B * width, THREADS), THREADS, 0, a);
    return DD_OK;
}

DDC_OPERATOR(assign);
DDC_OPERATOR(split_masks);
