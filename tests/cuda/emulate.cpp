/* SPDX-License-Identifier: Apache-2.0
 * CUDA on the CPU, for tests: fibers for the threads of a block, and a driver whose device memory can be touched by kernels
 * and copies only (the host's own access is a segmentation fault, as it would be on a card). x86-64 and others with ucontext.
 */
#include "emulate.h"
#include "emulate_hooks.h"

#include <mutex>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <vector>

namespace {
constexpr unsigned MOST_THREADS = 1024, LANES = 32;
constexpr size_t STACK = 64 * 1024, MOST_SHARED = 48 * 1024;

emulate_hooks hooks = {1, 0, 0, 0, 0, 0, 0, 0, 0, 0};
std::recursive_mutex device_lock; /* one kernel, copy or allocation at a time */

[[noreturn]] void stop(const char *kernel, const char *what)
{
    fprintf(stderr, "emulated CUDA: kernel %s: %s\n", kernel, what);
    abort();
}

/* ---- fibers ---- */

#if defined(__x86_64__)
/* Saves the callee's registers on the old stack and leaves by the new one. */
extern "C" void emulate_switch(void **save, void *to);
__asm__(".text\n"
        ".type emulate_switch, @function\n"
        "emulate_switch:\n"
        "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
        "  movq %rsp, (%rdi)\n"
        "  movq %rsi, %rsp\n"
        "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n"
        "  ret\n"
        ".size emulate_switch, .-emulate_switch\n");
struct fiber_state {
    void *stack_pointer;
};
void switch_fiber(fiber_state *from, fiber_state *to)
{
    emulate_switch(&from->stack_pointer, to->stack_pointer);
}
void start_fiber(fiber_state *state, unsigned char *stack, void (*entry)())
{
    void **top = (void **)(stack + STACK);
    *--top = NULL; /* keeps the stack aligned as after a call */
    *--top = (void *)entry;
    for (int i = 0; i < 6; ++i)
        *--top = NULL;
    state->stack_pointer = top;
}
#else
struct fiber_state {
    ucontext_t context;
};
void switch_fiber(fiber_state *from, fiber_state *to)
{
    swapcontext(&from->context, &to->context);
}
void start_fiber(fiber_state *state, unsigned char *stack, void (*entry)())
{
    getcontext(&state->context);
    state->context.uc_stack.ss_sp = stack;
    state->context.uc_stack.ss_size = STACK;
    state->context.uc_link = NULL;
    makecontext(&state->context, entry, 0);
}
#endif

enum progress { READY, AT_BLOCK_BARRIER, AT_WARP, FINISHED };

struct fiber {
    fiber_state state;
    progress at;
    unsigned phase; /* of its warp exchanges */
};

struct warp_words {
    uint64_t word[2][LANES]; /* a lane may be one exchange ahead of the others' reading */
};

unsigned char *stacks;
fiber fibers[MOST_THREADS];
warp_words words[MOST_THREADS / LANES];
fiber_state scheduler;
unsigned running;
void (*kernel_body)(void *);
void *kernel_context;

void fiber_main()
{
    kernel_body(kernel_context);
    fibers[running].at = FINISHED;
    switch_fiber(&fibers[running].state, &scheduler);
}

void run_fiber(unsigned t)
{
    running = t;
    emulate::thread = dim3(t, 0, 0);
    switch_fiber(&scheduler, &fibers[t].state);
}

void wait_at(progress where)
{
    fiber &self = fibers[running];
    self.at = where;
    switch_fiber(&self.state, &scheduler);
}

/* Lets every ready thread run until it waits. Returns how many ran. */
unsigned run_ready(unsigned threads)
{
    unsigned ran = 0;
    for (unsigned i = 0; i < threads; ++i) {
        unsigned t = hooks.backwards ? threads - 1 - i : i;
        if (fibers[t].at == READY) {
            run_fiber(t);
            ++ran;
        }
    }
    return ran;
}

bool all_at(progress where, unsigned first, unsigned count)
{
    for (unsigned t = first; t < first + count; ++t) {
        if (fibers[t].at != where)
            return false;
    }
    return true;
}

void set_ready(unsigned first, unsigned count)
{
    for (unsigned t = first; t < first + count; ++t)
        fibers[t].at = READY;
}

void run_block(const char *kernel, unsigned threads)
{
    for (unsigned t = 0; t < threads; ++t) {
        start_fiber(&fibers[t].state, stacks + t * STACK, fiber_main);
        fibers[t].at = READY;
        fibers[t].phase = 0;
    }
    for (;;) {
        unsigned released = run_ready(threads);
        for (unsigned first = 0; first < threads; first += LANES) {
            unsigned lanes = threads - first < LANES ? threads - first : LANES;
            if (all_at(AT_WARP, first, lanes)) {
                set_ready(first, lanes);
                ++released;
            }
        }
        if (all_at(FINISHED, 0, threads))
            return;
        if (all_at(AT_BLOCK_BARRIER, 0, threads)) {
            set_ready(0, threads);
            ++released;
        }
        if (released == 0)
            stop(kernel, "the threads of a block part at a barrier");
    }
}

/* ---- memory ---- */

struct allocation {
    unsigned char *map; /* whole pages */
    size_t map_bytes;
    unsigned char *memory;
    size_t bytes;
};
std::vector<allocation> allocations;
cudaError_t last = cudaSuccess;
int users = 0; /* of device memory, nested */

struct device_access {
    device_access()
    {
        protect(PROT_READ | PROT_WRITE, users++ == 0);
    }
    ~device_access()
    {
        protect(PROT_NONE, --users == 0);
    }
    static void protect(int rights, bool needed)
    {
        for (size_t i = 0; needed && i < allocations.size(); ++i)
            mprotect(allocations[i].map, allocations[i].map_bytes, rights);
    }
};

cudaError_t note(cudaError_t error)
{
    if (hooks.lost)
        error = cudaErrorLaunchFailure;
    if (error != cudaSuccess)
        last = error;
    return error;
}

/* Counts a call down to its failure. */
bool fails_now(int64_t *countdown)
{
    return *countdown > 0 && --*countdown == 0;
}

const allocation *allocation_of(const void *place, size_t bytes)
{
    for (const allocation &a : allocations) {
        if ((const unsigned char *)place >= a.memory && (const unsigned char *)place + bytes <= a.memory + a.bytes)
            return &a;
    }
    return NULL;
}
} // namespace

namespace emulate {
dim3 thread, block, block_size, grid_size;
unsigned char *shared_memory;

void block_barrier()
{
    wait_at(AT_BLOCK_BARRIER);
}

const uint64_t *exchange(unsigned lanes, uint64_t mine)
{
    if (lanes != 0xffffffffu)
        stop("?", "only whole warps exchange words here");
    fiber &self = fibers[running];
    unsigned warp = running / LANES;
    uint64_t *word = words[warp].word[self.phase++ % 2];
    word[running % LANES] = mine;
    wait_at(AT_WARP);
    return word;
}

void launch(const char *kernel, dim3 grid, dim3 threads, size_t shared_bytes, void (*body)(void *context), void *context)
{
    std::lock_guard<std::recursive_mutex> guard(device_lock);
    ++hooks.launches;
    if (fails_now(&hooks.fail_launch) || hooks.lost) {
        note(cudaErrorLaunchFailure);
        return;
    }
    if (threads.x == 0 || threads.x > MOST_THREADS || threads.x % LANES != 0 || grid.x == 0 || shared_bytes > MOST_SHARED)
        stop(kernel, "a launch that the hardware, or the emulator, would refuse");
    static unsigned char shared[MOST_SHARED];
    if (!stacks)
        stacks = (unsigned char *)mmap(NULL, MOST_THREADS * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    device_access access;
    shared_memory = shared;
    kernel_body = body;
    kernel_context = context;
    block_size = threads;
    grid_size = grid;
    for (unsigned i = 0; i < grid.x; ++i) {
        block = dim3(hooks.backwards ? grid.x - 1 - i : i, 0, 0);
        memset(shared, 0xa5, shared_bytes);
        run_block(kernel, threads.x);
    }
}
} // namespace emulate

extern "C" __attribute__((visibility("default"))) emulate_hooks *emulate_get_hooks(void)
{
    return &hooks;
}

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = hooks.devices;
    return hooks.devices > 0 ? cudaSuccess : cudaErrorNoDevice;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = hooks.devices >= 0 ? 13000 : 0;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device)
{
    memset(properties, 0, sizeof *properties);
    snprintf(properties->name, sizeof properties->name, "emulated device %d", device);
    properties->major = 9;
    properties->totalGlobalMem = (size_t)1 << 32;
    return device >= 0 && device < hooks.devices ? note(cudaSuccess) : cudaErrorInvalidDevice;
}

cudaError_t cudaGetDevice(int *device)
{
    *device = hooks.current;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
    if (device < 0 || device >= hooks.devices)
        return note(cudaErrorInvalidDevice);
    hooks.current = device;
    return cudaSuccess;
}

/* Memory ends at a page that nobody may touch, is full of a pattern, and is nobody's to read outside of kernels and copies. */
cudaError_t cudaMalloc(void **memory, size_t bytes)
{
    std::lock_guard<std::recursive_mutex> guard(device_lock);
    ++hooks.allocations;
    if (fails_now(&hooks.fail_allocation))
        return note(cudaErrorMemoryAllocation);
    if (note(cudaSuccess) != cudaSuccess)
        return last;
    const size_t page = 4096, rounded = (bytes + 255) / 256 * 256, pages = (rounded + page - 1) / page * page;
    void *map = mmap(NULL, pages + page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return note(cudaErrorMemoryAllocation);
    allocation a = {(unsigned char *)map, pages, (unsigned char *)map + pages - rounded, bytes};
    mprotect(map, pages, PROT_READ | PROT_WRITE);
    memset(map, 0xcd, pages);
    mprotect(map, pages, PROT_NONE);
    allocations.push_back(a);
    hooks.live_bytes += (int64_t)bytes;
    ++hooks.live_count;
    *memory = a.memory;
    return cudaSuccess;
}

cudaError_t cudaFree(void *memory)
{
    std::lock_guard<std::recursive_mutex> guard(device_lock);
    if (!memory)
        return note(cudaSuccess);
    for (size_t i = 0; i < allocations.size(); ++i) {
        if (allocations[i].memory != memory)
            continue;
        munmap(allocations[i].map, allocations[i].map_bytes + 4096);
        hooks.live_bytes -= (int64_t)allocations[i].bytes;
        --hooks.live_count;
        allocations.erase(allocations.begin() + (ptrdiff_t)i);
        return note(cudaSuccess);
    }
    return note(cudaErrorInvalidValue);
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, cudaMemcpyKind kind, cudaStream_t)
{
    std::lock_guard<std::recursive_mutex> guard(device_lock);
    bool dst_on_device = allocation_of(dst, bytes) != NULL, src_on_device = allocation_of(src, bytes) != NULL;
    if (dst_on_device != (kind != cudaMemcpyDeviceToHost) || src_on_device != (kind != cudaMemcpyHostToDevice))
        return note(cudaErrorInvalidValue);
    if (note(cudaSuccess) != cudaSuccess)
        return last;
    device_access access;
    memmove(dst, src, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *dst, int value, size_t bytes, cudaStream_t)
{
    std::lock_guard<std::recursive_mutex> guard(device_lock);
    if (!allocation_of(dst, bytes))
        return note(cudaErrorInvalidValue);
    if (note(cudaSuccess) != cudaSuccess)
        return last;
    device_access access;
    memset(dst, value, bytes);
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t)
{
    return note(cudaSuccess);
}

cudaError_t cudaGetLastError()
{
    cudaError_t error = last;
    if (!hooks.lost)
        last = cudaSuccess;
    return error;
}

const char *cudaGetErrorString(cudaError_t error)
{
    return error == cudaErrorMemoryAllocation ? "out of memory"
           : error == cudaErrorLaunchFailure  ? "unspecified launch failure"
                                              : "error";
}

const char *cudaGetErrorName(cudaError_t error)
{
    return error == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation"
           : error == cudaErrorLaunchFailure  ? "cudaErrorLaunchFailure"
                                              : "cudaErrorUnknown";
}
