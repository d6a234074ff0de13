/* SPDX-License-Identifier: Apache-2.0
 * The table of live handles. A handle from outside is looked up here before it is touched, so a stale, foreign or made-up
 * pointer is an error and never a crash; it also keeps two threads from using one handle at the same time. */
#ifndef DDI_BASE_HANDLE_H
#define DDI_BASE_HANDLE_H

#include <detrdistill/status.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum {
    DDI_CONTEXT = 1,
    DDI_MATCHER,
    DDI_DISTILLER,
    DDI_TENSORFILE,
    DDI_EVAL,
    DDI_MODEL,
    DDI_IMAGE,
    DDI_DATASET,
    DDI_LOADER,
    DDI_TRAINER,
    DDI_PLOT
} ddi_handle_kind;

/* Makes a handle known. Errors: NOMEM. */
dd_status ddi_handle_add(const void *object, ddi_handle_kind kind);

/* A number that no other handle of this process ever has; 0: not live. An object's address may be used again, this may not. */
uint64_t ddi_handle_number(const void *object);

/* Begins a call on a handle; `function` names the caller in the error. Contexts may be entered many times at once, others once.
 * Errors: ARGUMENT (NULL, not a live handle of this kind), STATE (in use). */
dd_status ddi_handle_enter(const void *object, ddi_handle_kind kind, const char *function);

/* Ends the call. true: the handle was freed meanwhile, and the caller destroys it now. */
bool ddi_handle_leave(const void *object);

/* Ends the handle's life. true: the caller destroys the object now; false: not a live handle, or in use (then the
 * one who leaves last destroys it). */
bool ddi_handle_remove(const void *object, ddi_handle_kind kind);

#endif
