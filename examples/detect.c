/* SPDX-License-Identifier: Apache-2.0
 * Runs a model over pictures and prints the best detection of each: detect MODEL DATA SIZE */
#include <detrdistill/detrdistill.h>
#include <stdio.h>

static dd_status print_best(dd_model *model, dd_loader *loader, int32_t images)
{
    dd_tensor originals;
    dd_status status = dd_loader_tensor(loader, "image.originals", &originals);
    for (int32_t i = 0; i < images && !status; i++) {
        const int32_t *size = (const int32_t *)originals.data + 2 * i;
        int32_t count = 0;
        const double *box, *score;
        const int64_t *label;
        const char *name;
        status = dd_model_detections(model, i, size[0], size[1], 1, 0, &count, &box, &label, &score, NULL);
        status = status || !count ? status : dd_model_class_at(model, (int32_t)label[0], &name);
        if (!status && count) {
            printf("%s %.3f at %.1f %.1f %.1f %.1f\n", name, score[0], box[0], box[1], box[2], box[3]);
        }
    }
    return status;
}

int main(int argc, char **argv)
{
    dd_context *context = NULL;
    dd_dataset *data = NULL;
    dd_loader *loader = NULL;
    dd_model *model = NULL;
    char words[128];
    int32_t images = 1;
    snprintf(words, sizeof words, "mode=eval max-size=0 sizes=%.16s", argc > 3 ? argv[3] : "800");
    dd_status status = dd_context_create(&context, "device=cpu");
    status = status ? status : dd_model_load(&model, context, argc > 1 ? argv[1] : "model", "gradients=0");
    status = status ? status : dd_dataset_open(&data, argc > 2 ? argv[2] : "scenes", NULL);
    status = status ? status : dd_loader_create(&loader, data, words);
    while (!status && !(status = dd_loader_next(loader, &images)) && images > 0) {
        dd_tensor pixels, sizes;
        status = dd_loader_tensor(loader, "pixels", &pixels);
        status = status ? status : dd_loader_tensor(loader, "image.sizes", &sizes);
        status = status ? status : dd_model_forward(model, &pixels, &sizes);
        status = status ? status : print_best(model, loader, images);
    }
    if (status) {
        puts(dd_error_message());
    }
    dd_loader_free(loader);
    dd_dataset_free(data);
    dd_model_free(model);
    dd_context_free(context);
    return status ? 1 : 0;
}
