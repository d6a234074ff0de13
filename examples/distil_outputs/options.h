/* SPDX-License-Identifier: Apache-2.0
 * The command line. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct options {
    const char *data, *ground_truth; /* NULL: a generated case */
    const char *teacher, *student;   /* prefixes of the tensors */
    const char *out, *device;
    int64_t steps, seed;
    double rate, box_rate;
    bool labels, joint, help;
} options;

/* false: a message was written to standard error. */
bool options_parse(options *o, int argc, char **argv);
void options_help(void);

#endif
