/* SPDX-License-Identifier: Apache-2.0
 * Finds backend modules: a shared library each, opened once and kept for the life of the process (unloading under live threads
 * of a vendor's runtime is unsafe). */
#include "backend/context.h"
#include "backend/ref/ref.h"
#include "base/cpu.h"
#include "base/error.h"
#include <detrdistill/version.h>

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MODULES = 8, PATH_BYTES = 4096 + 128 };

static const char *const operator_names[] = {
#define DD_OP(name, args, text) #name,
#include <detrdistill/sys/ops.def>
#undef DD_OP
};

const char *ddi_operator_name(int32_t op)
{
    return op >= 0 && op < DD_OPERATOR_COUNT ? operator_names[op] : "?";
}

static int32_t ref_score(char *why, size_t why_size)
{
    return 1;
}

static int32_t one_device(void)
{
    return 1;
}

static int32_t ref_isa(void)
{
    return DD_ISA_NONE;
}

static dd_status ref_open(int32_t index, void **device, char *text, size_t text_size)
{
    *device = NULL;
    snprintf(text, text_size, "reference kernels in plain C");
    return index == 0 ? DD_OK : DD_ERR_DEVICE;
}

static void ref_close(void *device) {}

static dd_status host_copy(void *device, void *stream, void *dst, const void *src, size_t bytes, int32_t kind)
{
    if (bytes)
        memcpy(dst, src, bytes);
    return DD_OK;
}

static dd_status host_zero(void *device, void *stream, void *dst, size_t bytes)
{
    if (bytes)
        memset(dst, 0, bytes);
    return DD_OK;
}

static dd_status host_sync(void *device, void *stream)
{
    return DD_OK;
}

static const dd_backend ref_backend = {
    .struct_size = sizeof(dd_backend),
    .interface_version = DD_BACKEND_INTERFACE,
    .name = "ref",
    .host_memory = 1,
    .device_type = DD_DEVICE_CPU,
    .score = ref_score,
    .device_count = one_device,
    .isa = ref_isa,
    .device_open = ref_open,
    .device_close = ref_close,
    .copy = host_copy,
    .zero = host_zero,
    .sync = host_sync,
};

const dd_backend *ddi_ref_backend(void)
{
    return &ref_backend;
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    char path[PATH_BYTES];
    const dd_backend *backend;
} loaded[MODULES];
static int32_t loaded_count;

/* Why `backend` cannot serve this core, or "" if it can. */
static void refuse_reason(const dd_backend *backend, const char *kind, char *why, size_t size)
{
    why[0] = '\0';
    if (!backend)
        snprintf(why, size, "it does not serve plug-in interface %u", DD_BACKEND_INTERFACE);
    else if (backend->interface_version != DD_BACKEND_INTERFACE)
        snprintf(why, size, "it has plug-in interface %u, this library %u", backend->interface_version, DD_BACKEND_INTERFACE);
    else if (backend->struct_size != sizeof *backend)
        snprintf(why, size, "its table has %u bytes, not %u", backend->struct_size, (unsigned)sizeof *backend);
    else if (!backend->name || strcmp(backend->name, kind) != 0)
        snprintf(why, size, "it is the module '%.20s'", backend->name ? backend->name : "");
    else if (!backend->score || !backend->device_count || !backend->isa || !backend->device_open || !backend->device_close ||
             !backend->copy || !backend->zero || !backend->sync || !backend->kernels || backend->kernel_count <= 0 ||
             (!backend->host_memory && (!backend->mem_alloc || !backend->mem_free)))
        snprintf(why, size, "its table has holes");
    else if (backend->score(why, size) > 0)
        why[0] = '\0';
    else if (!why[0])
        snprintf(why, size, "it cannot run on this machine");
}

/* Opens one module file. false with *why empty: there is no such file. */
static bool open_module(const char *path, const char *kind, const dd_backend **backend, char *why, size_t size)
{
    FILE *probe = fopen(path, "rb");
    why[0] = '\0';
    if (!probe)
        return false;
    fclose(probe);
    for (int32_t i = 0; i < loaded_count; i++)
        if (strcmp(loaded[i].path, path) == 0) {
            *backend = loaded[i].backend;
            return true;
        }
    void *library = ddi_fault() ? NULL : dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const char *text = dlerror();
        snprintf(why, size, "%s", text ? text : "the loader refused it");
        return false;
    }
    union {
        void *object;
        dd_backend_entry_fn function;
    } entry = {dlsym(library, DD_BACKEND_ENTRY)};
    if (entry.object)
        *backend = entry.function(DD_BACKEND_INTERFACE);
    if (!entry.object)
        snprintf(why, size, "it has no symbol %s", DD_BACKEND_ENTRY);
    else
        refuse_reason(*backend, kind, why, size);
    if (why[0])
        return false; /* stays loaded: its runtime may have started threads */
    if (loaded_count < MODULES) {
        snprintf(loaded[loaded_count].path, PATH_BYTES, "%s", path);
        loaded[loaded_count++].backend = *backend;
    }
    return true;
}

/* The folder of this library's own file. */
static void own_folder(char *folder, size_t size)
{
    Dl_info info;
    union {
        void (*function)(void);
        void *object;
    } self = {(void (*)(void))dd_version};
    folder[0] = '\0';
    if (dladdr(self.object, &info) && info.dli_fname) {
        const char *slash = strrchr(info.dli_fname, '/');
        if (slash)
            snprintf(folder, size, "%.*s", (int)(slash - info.dli_fname), info.dli_fname);
    }
}

static dd_status find_locked(const char *kind, const char *modules, const dd_backend **backend)
{
    char own[PATH_BYTES / 2], path[PATH_BYTES], why[256];
    own_folder(own, sizeof own);
    const char *from_environment = getenv("DETRDISTILL_MODULES");
    const char *const folder[] = {modules, from_environment, own, own, own};
    const char *const below[] = {"", "", "/detrdistill", "", "/backend"};
    for (int i = 0; i < 5; i++) {
        if (!folder[i] || !folder[i][0])
            continue;
        snprintf(path, sizeof path, i < 4 ? "%.3500s%s/libdetrdistill-%.20s.so" : "%.3500s%s/%.20s/libdetrdistill-%.20s.so",
                 folder[i], below[i], kind, kind);
        if (open_module(path, kind, backend, why, sizeof why))
            return DD_OK;
        if (why[0]) /* the first one found decides: another in its place would hide that it is unfit */
            return ddi_fail(DD_ERR_DEVICE, "device", "device=%s: module %.80s refused: %.120s", kind, path, why);
    }
    return ddi_fail(DD_ERR_DEVICE, "device",
                    "device=%s: no libdetrdistill-%s.so in modules=%.40s, $DETRDISTILL_MODULES, %.60s/detrdistill or %.60s",
                    kind, kind, modules && modules[0] ? modules : "(not set)", own, own);
}

dd_status ddi_backend_find(const char *kind, const char *modules, const dd_backend **backend)
{
    if (strcmp(kind, "ref") == 0) {
        *backend = &ref_backend;
        return DD_OK;
    }
    pthread_mutex_lock(&lock);
    dd_status status = find_locked(kind, modules, backend);
    pthread_mutex_unlock(&lock);
    return status;
}

static int32_t device_count(const char *kind)
{
    const dd_backend *backend;
    dd_status status = ddi_backend_find(kind, NULL, &backend);
    ddi_error_clear();
    return status == DD_OK ? backend->device_count() : 0;
}

int32_t dd_has(const char *feature)
{
    ddi_error_clear();
    if (!feature)
        return 0;
    if (strcmp(feature, "ref") == 0)
        return 1;
    if (strcmp(feature, "cpu") == 0 || strcmp(feature, "cuda") == 0)
        return device_count(feature) > 0;
    if (strcmp(feature, "avx2") == 0)
        return ddi_cpu_isa() >= DD_ISA_AVX2;
    if (strcmp(feature, "avx512") == 0)
        return ddi_cpu_isa() >= DD_ISA_AVX512;
#ifdef DDI_FAULT_POINTS
    return strcmp(feature, "fault_points") == 0;
#else
    return 0;
#endif
}

dd_status dd_device_count(const char *kind, int32_t *count)
{
    ddi_error_clear();
    if (!kind || !count)
        return ddi_fail(DD_ERR_ARGUMENT, NULL, "dd_device_count: %s is NULL", kind ? "count" : "kind");
    if (strcmp(kind, "cpu") != 0 && strcmp(kind, "cuda") != 0 && strcmp(kind, "ref") != 0)
        return ddi_fail(DD_ERR_ARGUMENT, NULL, "dd_device_count: kind '%.40s' is not cpu, cuda or ref", kind);
    *count = device_count(kind);
    return DD_OK;
}
