/* SPDX-License-Identifier: Apache-2.0
 * One distillation step on the tensors of a safetensors file that have the library's names: kd_step CASE */
#include <detrdistill/detrdistill.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    dd_context *context = NULL;
    dd_distiller *distiller = NULL;
    dd_tensorfile *file = NULL;
    int32_t count = 0;
    double total = 0;
    dd_status status = dd_tensorfile_open(&file, argc > 1 ? argv[1] : "kd_case.safetensors");
    status = status ? status : dd_context_create(&context, "device=cpu");
    status = status ? status : dd_distiller_create(&distiller, context, "family=deformable-detr");
    status = status ? status : dd_tensorfile_count(file, &count);
    for (int32_t i = 0; i < count && !status; i++) {
        const char *name;
        dd_tensor tensor;
        status = dd_tensorfile_at(file, i, &name, &tensor);
        status = status ? status : dd_distiller_bind(distiller, name, &tensor);
    }
    status = status ? status : dd_distiller_step(distiller, &total);
    status ? puts(dd_error_message()) : printf("total %.8g\n", total);
    dd_distiller_free(distiller);
    dd_context_free(context);
    dd_tensorfile_free(file);
    return status ? 1 : 0;
}
