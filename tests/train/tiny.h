/* SPDX-License-Identifier: Apache-2.0
 * Tiny models on generated scenes, and folders of their own. */
#ifndef TESTS_TRAIN_TINY_H
#define TESTS_TRAIN_TINY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <detrdistill/detrdistill.h>

/* Fails the test with the library's sentence. */
#define OK(call) assert_ok((call), #call, __FILE__, __LINE__)
void assert_ok(dd_status status, const char *call, const char *file, int line);

typedef struct tiny {
    dd_context *context;
    dd_model *student, *teacher;
    dd_dataset *train, *validation;
    dd_trainer *trainer;
} tiny;

#define TINY_STUDENT                                                                                                           \
    "classes=3 queries=12 backbone=resnet-18 block=basic stem=8 depths=1,1,1,1 widths=8,16,16,32 width=32 levels=3 "           \
    "encoder-layers=1 decoder-layers=2 heads=4 points=2 ffn=32 dropout=0.1"
#define TINY_SCENES "scenes:train=8,val=4,size=64,classes=3,seed=5"
#define TINY_DATA "sizes=64 max-size=64 crop=0 warmup=0 "

/* Context, student and data sets. `words` of dd_model_create behind those above, and of dd_context_create. */
void tiny_open(tiny *t, const char *words, const char *context);
/* Frees what there is. */
void tiny_close(tiny *t);
/* The trainer; options behind TINY_DATA. */
dd_status tiny_train(tiny *t, const char *folder, const char *options, const char *distiller);
/* A number for all bits of the student's parameters. */
uint64_t tiny_hash(dd_model *model);
double tiny_value(const tiny *t, const char *name);

/* A new folder below the temporary one, removed with tiny_remove. */
void tiny_folder(char path[256]);
void tiny_remove(const char *path);

#endif
