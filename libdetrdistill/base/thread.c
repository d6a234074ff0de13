/* SPDX-License-Identifier: Apache-2.0
 * Starting threads. */
#include "base/thread.h"
#include "base/alloc.h"
#include "base/error.h"

#include <errno.h>
#include <signal.h>

dd_status ddi_thread_start(pthread_t *thread, void *(*run)(void *), void *user)
{
    pthread_attr_t attributes;
    sigset_t all;
    sigfillset(&all);
    int failed = ddi_fault() ? EAGAIN : pthread_attr_init(&attributes);
    if (!failed) {
        failed = pthread_attr_setsigmask_np(&attributes, &all);
        failed = failed ? failed : pthread_create(thread, &attributes, run, user);
        pthread_attr_destroy(&attributes);
    }
    return failed ? ddi_fail(DD_ERR_NOMEM, NULL, "the operating system refuses another thread (error %d)", failed) : DD_OK;
}
