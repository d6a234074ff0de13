/* SPDX-License-Identifier: Apache-2.0
 * The one place where the core starts threads. */
#ifndef DDI_BASE_THREAD_H
#define DDI_BASE_THREAD_H

#include <detrdistill/status.h>
#include <pthread.h>

/* Starts a thread that takes no signals, so the host's handlers never run on it. Errors: NOMEM. */
dd_status ddi_thread_start(pthread_t *thread, void *(*run)(void *), void *user);

#endif
