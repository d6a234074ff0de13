/* SPDX-License-Identifier: Apache-2.0
 * Status codes and the last error of the calling thread. */
#ifndef DETRDISTILL_STATUS_H
#define DETRDISTILL_STATUS_H

#include <stdint.h>

#if defined(DD_BUILDING_LIBRARY) && defined(__GNUC__)
#define DD_API __attribute__((visibility("default")))
#else
#define DD_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Zero is good, negative is bad. The set only grows. */
typedef int32_t dd_status;

enum {
    DD_OK = 0,
    DD_ERR_ARGUMENT = -1,     /* NULL, or a value outside its documented range */
    DD_ERR_SHAPE = -2,        /* a tensor's dimensions do not fit the others */
    DD_ERR_DTYPE = -3,        /* a tensor's element type is not accepted here */
    DD_ERR_DEVICE = -4,       /* a tensor lives on another device, or there is no such device */
    DD_ERR_STATE = -5,        /* called too early, twice, or from two threads at once */
    DD_ERR_OPTION = -6,       /* an option string has an unknown key or a bad value */
    DD_ERR_LIMIT = -7,        /* a size is above its limit (docs/limits.md) */
    DD_ERR_NOMEM = -8,        /* host or device memory ran out */
    DD_ERR_NONFINITE = -9,    /* NaN or infinity where a number is needed */
    DD_ERR_BACKEND = -10,     /* a backend's library or device call failed */
    DD_ERR_UNSUPPORTED = -11, /* no kernel for this operator on this device */
    DD_ERR_FORMAT = -12,      /* a file's contents are damaged or not of the expected format */
    DD_ERR_IO = -13,          /* the operating system refused a file operation */
    DD_ERR_CANCELLED = -14,   /* dd_context_cancel was called */
    DD_ERR_FORKED = -15,      /* the handle was made before fork(); make a new context in the child */
    DD_ERR_NOT_FOUND = -16,   /* no such name or index */
    DD_ERR_INTERNAL = -17     /* a bug in the library: please report */
};

/* Places that an error can name; see dd_error_place. */
enum {
    DD_PLACE_IMAGE = 0, /* index in the batch */
    DD_PLACE_STAGE = 1, /* decoder stage, 0-based */
    DD_PLACE_QUERY = 2,
    DD_PLACE_STEP = 3 /* how many steps this handle had finished */
};

/* "DD_ERR_SHAPE" for DD_ERR_SHAPE; "DD_ERR_?" for a number that is no status. Never NULL, static, any thread. */
DD_API const char *dd_status_name(dd_status status);

/* The sentence of the last failed call on this thread, "" after a good one. Never NULL. It lives until this
 * thread's next call into the library. At most 255 bytes of UTF-8. */
DD_API const char *dd_error_message(void);

/* The status of the last call on this thread that can fail. */
DD_API dd_status dd_error_status(void);

/* The name of the tensor or option that the last error is about, "" where none applies. Same lifetime as the message. */
DD_API const char *dd_error_subject(void);

/* Where the last error was met: one of DD_PLACE_*; -1 where it does not apply. */
DD_API int64_t dd_error_place(int32_t place);

#ifdef __cplusplus
}
#endif
#endif
