/* SPDX-License-Identifier: Apache-2.0
 * NULL for each pointer, and handles that are NULL, freed or of another kind, in each function of models, pictures, data sets,
 * loaders, trainers and plots: an error with a sentence, or, where the pointer is optional, none. */
#include "tiny.h"

#include <stdio.h>
#include <string.h>

enum { KINDS = 6 };

/* A handle that is none: ARGUMENT. */
#define NO_HANDLE(call) expect_argument((call), #call)
static void expect_argument(dd_status status, const char *call)
{
    if (status != DD_ERR_ARGUMENT || dd_error_message()[0] == '\0') {
        fail_msg("%s: %s, '%s'", call, dd_status_name(status), dd_error_message());
    }
}

/* A pointer that is NULL: an error with a sentence, or none. */
#define NO_POINTER(call) expect_return((call), #call)
static void expect_return(dd_status status, const char *call)
{
    if ((status != DD_OK) != (dd_error_message()[0] != '\0') || status == DD_ERR_INTERNAL) {
        fail_msg("%s: %s, '%s'", call, dd_status_name(status), dd_error_message());
    }
}

static void sweep_model(dd_model *h)
{
    int32_t n;
    int64_t a;
    double x;
    const char *name;
    dd_tensor view = {.struct_size = sizeof view};
    NO_HANDLE(dd_model_save(h, "/nowhere"));
    NO_HANDLE(dd_model_export(h, "/nowhere", "names=official"));
    NO_HANDLE(dd_model_set_mode(h, 0, 0));
    NO_HANDLE(dd_model_class_count(h, &n));
    NO_HANDLE(dd_model_class_at(h, 0, &name));
    NO_HANDLE(dd_model_set_class(h, 0, "a"));
    NO_HANDLE(dd_model_parameter_count(h, &n));
    NO_HANDLE(dd_model_parameter_at(h, 0, &name, &view, &n));
    NO_HANDLE(dd_model_gradient(h, "a", &view));
    NO_HANDLE(dd_model_zero_gradients(h));
    NO_HANDLE(dd_model_size(h, &a, &a));
    NO_HANDLE(dd_model_part_size(h, "backbone", &a, &a));
    NO_HANDLE(dd_model_operations(h, 64, 64, "total", &x));
    NO_HANDLE(dd_model_plan(h, 1, 64, 64, 0, 0, "total", &x));
    NO_HANDLE(dd_model_memory(h, &a, &a));
    NO_HANDLE(dd_model_forward(h, &view, NULL));
    NO_HANDLE(dd_model_detections(h, 0, 1, 1, 1, 0, &n, NULL, NULL, NULL, NULL));
    NO_HANDLE(dd_model_tensor(h, "logits", &view));
    NO_HANDLE(dd_model_seed(h, "logits", &view));
    NO_HANDLE(dd_model_backward(h));
}

static void sweep_data(dd_image *image, dd_dataset *data, dd_loader *loader)
{
    int32_t n;
    int64_t a;
    const char *name;
    const double *boxes, box[4] = {0, 0, 1, 1};
    dd_image *other;
    dd_loader *made;
    dd_tensor view;
    NO_HANDLE(dd_image_pixels(image, &view));
    NO_HANDLE(dd_image_resize(image, 2, 2));
    NO_HANDLE(dd_image_draw_box(image, box, 1, 0, "a"));
    NO_HANDLE(dd_image_save(image, "/nowhere/a.png"));
    NO_HANDLE(dd_dataset_image_count(data, &n));
    NO_HANDLE(dd_dataset_class_count(data, &n));
    NO_HANDLE(dd_dataset_split_count(data, &n));
    NO_HANDLE(dd_dataset_split_at(data, 0, &name));
    NO_HANDLE(dd_dataset_class_at(data, 0, &a, &name));
    NO_HANDLE(dd_dataset_image_at(data, 0, &a, &name, &n, &n));
    NO_HANDLE(dd_dataset_objects(data, 0, &n, &boxes, NULL, NULL, NULL));
    NO_HANDLE(dd_dataset_read(data, 0, &other));
    NO_HANDLE(dd_dataset_statistic_count(data, &n));
    NO_HANDLE(dd_dataset_statistic_at(data, 0, &name, &a));
    NO_HANDLE(dd_loader_create(&made, data, NULL));
    NO_HANDLE(dd_loader_next(loader, &n));
    NO_HANDLE(dd_loader_tensor(loader, "pixels", &view));
    NO_HANDLE(dd_loader_position(loader, &a, &a));
    NO_HANDLE(dd_loader_seek(loader, 0, 0));
    NO_HANDLE(dd_loader_batch_count(loader, &a));
    NO_HANDLE(dd_loader_damaged_count(loader, &a));
}

static void sweep_trainer(dd_trainer *h, dd_plot *plot)
{
    int32_t n;
    double x, numbers[12];
    const char *name;
    dd_model *student;
    NO_HANDLE(dd_trainer_set_progress(h, NULL, NULL));
    NO_HANDLE(dd_trainer_step(h, &x));
    NO_HANDLE(dd_trainer_run(h, 0, &n));
    NO_HANDLE(dd_trainer_evaluate(h, numbers));
    NO_HANDLE(dd_trainer_save(h));
    NO_HANDLE(dd_trainer_export(h, "/nowhere"));
    NO_HANDLE(dd_trainer_value_count(h, &n));
    NO_HANDLE(dd_trainer_value_at(h, 0, &name, &x));
    NO_HANDLE(dd_trainer_value_get(h, "step", &x));
    NO_HANDLE(dd_trainer_student(h, &student));
    NO_HANDLE(dd_plot_set_labels(plot, "a", "b", "c"));
    NO_HANDLE(dd_plot_add_curve(plot, "a", 1, &x, &x));
    NO_HANDLE(dd_plot_save(plot, "/nowhere/a.svg"));
}

static void handles_of_no_use(void **state)
{
    tiny t;
    dd_image *image;
    dd_loader *loader;
    dd_plot *plot;
    char made_up[4096] = {0};
    tiny_open(&t, "", "threads=1");
    OK(tiny_train(&t, NULL, "", NULL));
    OK(dd_image_create(&image, 4, 4));
    OK(dd_loader_create(&loader, t.train, "batch=1"));
    OK(dd_plot_create(&plot, NULL));
    void *const live[KINDS] = {t.student, image, t.train, loader, t.trainer, plot};
    for (int wrong = 1; wrong < KINDS; wrong++) { /* of another kind */
        sweep_model(live[wrong % KINDS]);
        sweep_data(live[(1 + wrong) % KINDS], live[(2 + wrong) % KINDS], live[(3 + wrong) % KINDS]);
        sweep_trainer(live[(4 + wrong) % KINDS], live[(5 + wrong) % KINDS]);
    }
    dd_loader_free(loader);
    dd_image_free(image);
    dd_plot_free(plot);
    void *const trainer = t.trainer, *const student = t.student, *const train = t.train;
    tiny_close(&t);
    sweep_model(student); /* freed */
    sweep_data(image, train, loader);
    sweep_trainer(trainer, plot);
    sweep_model(NULL);
    sweep_data(NULL, NULL, NULL);
    sweep_trainer(NULL, NULL);
    sweep_model((dd_model *)made_up);
    sweep_data((dd_image *)made_up, (dd_dataset *)made_up, (dd_loader *)made_up);
    sweep_trainer((dd_trainer *)made_up, (dd_plot *)made_up);
    dd_model_free(student); /* twice: as good as once */
    dd_dataset_free(train);
    dd_trainer_free(trainer);
    dd_image_free(image);
    dd_loader_free(loader);
    dd_plot_free(plot);
}

static void null_to_models(void **state)
{
    tiny t;
    dd_model *model = NULL;
    const char *name;
    double x;
    int32_t n;
    int64_t a;
    dd_tensor view;
    tiny_open(&t, "", "threads=1");
    dd_model *h = t.student;
    NO_POINTER(dd_model_create(NULL, t.context, TINY_STUDENT));
    NO_POINTER(dd_model_create(&model, NULL, TINY_STUDENT));
    NO_POINTER(dd_model_load(NULL, t.context, "a", NULL));
    NO_POINTER(dd_model_load(&model, NULL, "a", NULL));
    NO_POINTER(dd_model_load(&model, t.context, NULL, NULL));
    assert_null(model);
    NO_POINTER(dd_model_save(h, NULL));
    NO_POINTER(dd_model_export(h, NULL, "names=official"));
    NO_POINTER(dd_model_class_count(h, NULL));
    NO_POINTER(dd_model_class_at(h, 0, NULL));
    NO_POINTER(dd_model_class_at(h, 99, &name));
    NO_POINTER(dd_model_set_class(h, 0, NULL));
    NO_POINTER(dd_model_set_class(h, -1, "a"));
    NO_POINTER(dd_model_parameter_count(h, NULL));
    NO_POINTER(dd_model_parameter_at(h, 0, NULL, &view, &n));
    NO_POINTER(dd_model_parameter_at(h, 0, &name, NULL, &n));
    NO_POINTER(dd_model_parameter_at(h, 0, &name, &view, NULL));
    NO_POINTER(dd_model_parameter_at(h, -1, &name, &view, NULL));
    NO_POINTER(dd_model_gradient(h, NULL, &view));
    NO_POINTER(dd_model_gradient(h, "model.level_embed", NULL));
    NO_POINTER(dd_model_gradient(h, "none", &view));
    NO_POINTER(dd_model_size(h, NULL, &a));
    NO_POINTER(dd_model_size(h, &a, NULL));
    NO_POINTER(dd_model_part_size(h, NULL, &a, &a));
    NO_POINTER(dd_model_part_size(h, "backbone", NULL, NULL));
    NO_POINTER(dd_model_part_size(h, "nose", &a, &a));
    NO_POINTER(dd_model_operations(h, 64, 64, NULL, &x));
    NO_POINTER(dd_model_operations(h, 64, 64, "total", NULL));
    NO_POINTER(dd_model_operations(h, -1, 64, "total", &x));
    NO_POINTER(dd_model_plan(h, 1, 64, 64, 0, 0, NULL, &x));
    NO_POINTER(dd_model_plan(h, 1, 64, 64, 0, 0, "total", NULL));
    NO_POINTER(dd_model_memory(h, NULL, NULL));
    NO_POINTER(dd_model_forward(h, NULL, NULL));
    NO_POINTER(dd_model_tensor(h, NULL, &view));
    NO_POINTER(dd_model_tensor(h, "logits", NULL));
    NO_POINTER(dd_model_seed(h, NULL, &view));
    NO_POINTER(dd_model_seed(h, "logits", NULL));
    NO_POINTER(dd_model_backward(h));
    NO_POINTER(dd_model_detections(h, 0, 1, 1, 1, 0, NULL, NULL, NULL, NULL, NULL));
    tiny_close(&t);
}

static void null_to_data(void **state)
{
    dd_image *image = NULL;
    dd_dataset *data = NULL;
    dd_loader *loader = NULL;
    const char *name;
    const double nan_box[4] = {0. / 0., 0, 1, 1}, box[4] = {-5, 1, 900, 3};
    int32_t n;
    int64_t a;
    dd_tensor view;
    NO_POINTER(dd_image_create(NULL, 4, 4));
    NO_POINTER(dd_image_create(&image, 0, 4));
    NO_POINTER(dd_image_create(&image, 4, -4));
    NO_POINTER(dd_image_create(&image, 1 << 20, 1 << 20));
    NO_POINTER(dd_image_open(NULL, "a"));
    NO_POINTER(dd_image_open(&image, NULL));
    NO_POINTER(dd_image_decode(NULL, "a", 1));
    NO_POINTER(dd_image_decode(&image, NULL, 1));
    NO_POINTER(dd_image_decode(&image, "abc", 3));
    assert_null(image);
    OK(dd_image_create(&image, 40, 30));
    NO_POINTER(dd_image_pixels(image, NULL));
    NO_POINTER(dd_image_resize(image, 0, 2));
    NO_POINTER(dd_image_resize(image, 2, -2));
    NO_POINTER(dd_image_resize(image, 1 << 20, 1 << 20));
    NO_POINTER(dd_image_draw_box(image, NULL, 1, 0, "a"));
    NO_POINTER(dd_image_draw_box(image, box, 0, 0, "a"));
    NO_POINTER(dd_image_draw_box(image, nan_box, 1, 0, "a"));
    OK(dd_image_draw_box(image, box, 2, 0xFFFFFF, "a cat"));
    OK(dd_image_draw_box(image, box, 256, 0, ""));
    OK(dd_image_draw_box(image, box, 1, 0, NULL));
    NO_POINTER(dd_image_save(image, NULL));
    NO_POINTER(dd_image_save(image, "/nowhere/a.png"));
    dd_image_free(image);
    image = NULL;
    NO_POINTER(dd_dataset_open(NULL, "scenes", NULL));
    NO_POINTER(dd_dataset_open(&data, NULL, NULL));
    OK(dd_dataset_open(&data, TINY_SCENES, NULL));
    NO_POINTER(dd_dataset_image_count(data, NULL));
    NO_POINTER(dd_dataset_class_count(data, NULL));
    NO_POINTER(dd_dataset_split_count(data, NULL));
    NO_POINTER(dd_dataset_split_at(data, 0, NULL));
    NO_POINTER(dd_dataset_split_at(data, 99, &name));
    NO_POINTER(dd_dataset_class_at(data, 0, NULL, NULL));
    NO_POINTER(dd_dataset_class_at(data, -1, &a, &name));
    NO_POINTER(dd_dataset_image_at(data, 0, NULL, NULL, NULL, NULL));
    NO_POINTER(dd_dataset_image_at(data, 1 << 30, &a, &name, &n, &n));
    NO_POINTER(dd_dataset_objects(data, 0, NULL, NULL, NULL, NULL, NULL));
    NO_POINTER(dd_dataset_objects(data, -1, &n, NULL, NULL, NULL, NULL));
    NO_POINTER(dd_dataset_read(data, 0, NULL));
    NO_POINTER(dd_dataset_read(data, -1, &image));
    NO_POINTER(dd_dataset_statistic_count(data, NULL));
    NO_POINTER(dd_dataset_statistic_at(data, 0, NULL, NULL));
    NO_POINTER(dd_dataset_statistic_at(data, 99, &name, &a));
    NO_POINTER(dd_loader_create(NULL, data, NULL));
    OK(dd_loader_create(&loader, data, "batch=1"));
    NO_POINTER(dd_loader_next(loader, NULL));
    NO_POINTER(dd_loader_tensor(loader, NULL, &view));
    NO_POINTER(dd_loader_tensor(loader, "pixels", NULL));
    NO_POINTER(dd_loader_tensor(loader, "nose", &view));
    NO_POINTER(dd_loader_position(loader, NULL, NULL));
    NO_POINTER(dd_loader_seek(loader, -1, 0));
    NO_POINTER(dd_loader_seek(loader, 0, 1 << 30));
    NO_POINTER(dd_loader_batch_count(loader, NULL));
    NO_POINTER(dd_loader_damaged_count(loader, NULL));
    dd_loader_free(loader);
    dd_dataset_free(data);
}

static void null_to_trainers(void **state)
{
    tiny t;
    double x = 1, numbers[12];
    int32_t n;
    const char *name;
    dd_plot *plot = NULL;
    tiny_open(&t, "", "threads=1");
    NO_POINTER(dd_trainer_create(NULL, t.student, NULL, t.train, NULL, NULL, NULL, NULL));
    NO_POINTER(dd_trainer_create(&t.trainer, NULL, NULL, t.train, NULL, NULL, NULL, NULL));
    NO_POINTER(dd_trainer_create(&t.trainer, t.student, NULL, NULL, NULL, NULL, NULL, NULL));
    NO_POINTER(dd_trainer_resume(NULL, t.context, "/nowhere", NULL));
    NO_POINTER(dd_trainer_resume(&t.trainer, NULL, "/nowhere", NULL));
    NO_POINTER(dd_trainer_resume(&t.trainer, t.context, NULL, NULL));
    assert_null(t.trainer);
    OK(tiny_train(&t, NULL, "", NULL));
    NO_POINTER(dd_trainer_value_get(t.trainer, "loss.total", &x)); /* no step yet */
    NO_POINTER(dd_trainer_step(t.trainer, NULL));
    NO_POINTER(dd_trainer_run(t.trainer, -1, &n));
    NO_POINTER(dd_trainer_run(t.trainer, 1, NULL));
    NO_POINTER(dd_trainer_stop(NULL));
    NO_POINTER(dd_trainer_evaluate(t.trainer, NULL));
    NO_POINTER(dd_trainer_evaluate(t.trainer, numbers));
    NO_POINTER(dd_trainer_export(t.trainer, NULL));
    NO_POINTER(dd_trainer_value_count(t.trainer, NULL));
    NO_POINTER(dd_trainer_value_at(t.trainer, 0, NULL, NULL));
    NO_POINTER(dd_trainer_value_at(t.trainer, -1, &name, &x));
    NO_POINTER(dd_trainer_value_get(t.trainer, NULL, &x));
    NO_POINTER(dd_trainer_value_get(t.trainer, "step", NULL));
    NO_POINTER(dd_trainer_value_get(t.trainer, "nose", &x));
    NO_POINTER(dd_trainer_student(t.trainer, NULL));
    tiny_close(&t);
    NO_POINTER(dd_run_plot(NULL, NULL));
    NO_POINTER(dd_run_plot("/nowhere", NULL));
    NO_POINTER(dd_plot_create(NULL, NULL));
    NO_POINTER(dd_plot_create(&plot, "x=1"));
    OK(dd_plot_create(&plot, "log-y=1"));
    NO_POINTER(dd_plot_set_labels(plot, NULL, NULL, NULL));
    NO_POINTER(dd_plot_add_curve(plot, NULL, 1, &x, &x));
    NO_POINTER(dd_plot_add_curve(plot, "a", -1, &x, &x));
    NO_POINTER(dd_plot_add_curve(plot, "a", 1, NULL, NULL));
    NO_POINTER(dd_plot_save(plot, NULL));
    NO_POINTER(dd_plot_save(plot, "/nowhere/a.svg"));
    dd_plot_free(plot);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(handles_of_no_use),
        cmocka_unit_test(null_to_models),
        cmocka_unit_test(null_to_data),
        cmocka_unit_test(null_to_trainers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
