/* SPDX-License-Identifier: Apache-2.0
 * Trains a small detector on generated scenes and keeps it as a Hugging Face folder: train FOLDER */
#include <detrdistill/detrdistill.h>
#include <stdio.h>

static int32_t tell(void *user, int32_t event, const char *const *name, const double *value, int32_t count)
{
    for (int32_t i = 0; event == DD_TRAIN_EVALUATED && i < 3; i++) {
        printf("%s %g%s", name[i], value[i], i < 2 ? "  " : "\n");
    }
    return 0; /* go on */
}

int main(int argc, char **argv)
{
    const char *folder = argc > 1 ? argv[1] : "run";
    dd_context *context = NULL;
    dd_dataset *train = NULL, *validation = NULL;
    dd_model *student = NULL;
    dd_trainer *trainer = NULL;
    double loss = 0;
    dd_status status = dd_context_create(&context, "device=cpu seed=7");
    status = status ? status : dd_dataset_open(&train, "scenes:train=8,val=4,size=64,classes=3", "split=train");
    status = status ? status : dd_dataset_open(&validation, "scenes:train=8,val=4,size=64,classes=3", "split=val");
    status = status
                 ? status
                 : dd_model_create(&student, context,
                                   "backbone=resnet-18 classes=3 queries=10 width=32 levels=3 heads=2 ffn=64 decoder-layers=2 "
                                   "encoder-layers=1 stem=8 widths=8,16,24,32 depths=1,1,1,1");
    status = status ? status
                    : dd_trainer_create(&trainer, student, NULL, train, validation, folder,
                                        "epochs=2 sizes=64 max-size=0 crop=0 warmup=0", NULL);
    status = status ? status : dd_trainer_set_progress(trainer, tell, NULL);
    status = status ? status : dd_trainer_run(trainer, 0, NULL);
    status = status ? status : dd_trainer_value_get(trainer, "loss.total", &loss);
    status ? puts(dd_error_message()) : printf("loss %.4f, the student is in %s/student\n", loss, folder);
    dd_trainer_free(trainer);
    dd_model_free(student);
    dd_dataset_free(train);
    dd_dataset_free(validation);
    dd_context_free(context);
    return status ? 1 : 0;
}
