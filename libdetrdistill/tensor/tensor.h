/* SPDX-License-Identifier: Apache-2.0
 * What the core asks of a tensor view that came from outside. */
#ifndef DDI_TENSOR_TENSOR_H
#define DDI_TENSOR_TENSOR_H

#include <detrdistill/tensor.h>
#include <stdbool.h>

/* Everything that dd_tensor_init checks, for a view that may have been filled by hand. `name` names it in the error. */
dd_status ddi_tensor_check(const dd_tensor *tensor, const char *name);

int64_t ddi_tensor_elements(const dd_tensor *tensor);
bool ddi_tensor_is_contiguous(const dd_tensor *tensor);
bool ddi_dtype_is_float(int32_t dtype);

/* Conservative: false only if no two elements share memory. */
bool ddi_tensor_overlaps_itself(const dd_tensor *tensor);

/* The bytes [*low, *high) that the elements cover. */
void ddi_tensor_span(const dd_tensor *tensor, uintptr_t *low, uintptr_t *high);

/* "[6,2,300,80]" */
const char *ddi_shape_text(const dd_tensor *tensor, char text[160]);

#endif
