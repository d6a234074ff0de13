/* SPDX-License-Identifier: Apache-2.0
 * For against_transformers.py: takes a model, runs a batch, writes what it found, saves the model.
 *
 *     run_model make OPTIONS "" INPUT OUTPUT FOLDER
 *     run_model load PATH OPTIONS INPUT OUTPUT FOLDER
 *
 * INPUT has "pixels" [B,3,H,W] and "sizes" int32 [B,2]; OUTPUT gets "logits" and "boxes"; FOLDER the model. */
#include <detrdistill/detrdistill.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void need(dd_status status, const char *what)
{
    if (status != DD_OK) {
        fprintf(stderr, "%s: %s\n", what, dd_error_message());
        exit(1);
    }
}

int main(int count, char **words)
{
    dd_context *context;
    dd_model *model;
    dd_tensorfile *input, *output;
    dd_tensor pixels, sizes, found;
    if (count != 7 || (strcmp(words[1], "make") != 0 && strcmp(words[1], "load") != 0)) {
        fprintf(stderr, "usage: run_model make|load WHAT OPTIONS INPUT OUTPUT FOLDER\n");
        return 2;
    }
    need(dd_context_create(&context, "device=ref"), "context");
    if (strcmp(words[1], "make") == 0) {
        need(dd_model_create(&model, context, words[2]), "create");
    } else {
        need(dd_model_load(&model, context, words[2], words[3]), "load");
    }
    need(dd_tensorfile_open(&input, words[4]), words[4]);
    need(dd_tensorfile_get(input, "pixels", &pixels), "pixels");
    need(dd_tensorfile_get(input, "sizes", &sizes), "sizes");
    need(dd_model_forward(model, &pixels, &sizes), "forward");
    need(dd_tensorfile_create(&output), words[5]);
    need(dd_model_tensor(model, "logits", &found), "logits");
    need(dd_tensorfile_set(output, "logits", &found), "logits");
    need(dd_model_tensor(model, "boxes", &found), "boxes");
    need(dd_tensorfile_set(output, "boxes", &found), "boxes");
    need(dd_tensorfile_save(output, words[5]), words[5]);
    need(dd_model_save(model, words[6]), words[6]);
    dd_tensorfile_free(output);
    dd_tensorfile_free(input);
    dd_model_free(model);
    dd_context_free(context);
    return 0;
}
