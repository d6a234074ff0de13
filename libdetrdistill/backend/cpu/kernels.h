/* SPDX-License-Identifier: Apache-2.0
 * The module's own kernels, each for two instruction sets, and those that call other libraries. */
#ifndef DDI_CPU_KERNELS_H
#define DDI_CPU_KERNELS_H

#include <detrdistill/sys/backend.h>

/* X(operator): kernels on f32. */
#define CPU_KERNELS(X)                                                                                                         \
    X(check_finite)                                                                                                            \
    X(gather)                                                                                                                  \
    X(scatter)                                                                                                                 \
    X(gt_cost)                                                                                                                 \
    X(kd_targets)                                                                                                              \
    X(kd_cost)                                                                                                                 \
    X(det_loss)                                                                                                                \
    X(kd_loss)                                                                                                                 \
    X(quality)                                                                                                                 \
    X(feature_weights)                                                                                                         \
    X(feature_loss)                                                                                                            \
    X(row_sum)                                                                                                                 \
    X(resize)                                                                                                                  \
    X(resize_grad)                                                                                                             \
    X(take_rows)                                                                                                               \
    X(batchnorm_relu)                                                                                                          \
    X(batchnorm_relu_grad)                                                                                                     \
    X(l2norm)                                                                                                                  \
    X(l2norm_grad)                                                                                                             \
    X(cross_entropy)                                                                                                           \
    X(matmul)                                                                                                                  \
    X(msda)                                                                                                                    \
    X(msda_grad)                                                                                                               \
    X(attention)                                                                                                               \
    X(attention_grad)                                                                                                          \
    X(sine_position)                                                                                                           \
    X(coord_embed)                                                                                                             \
    X(coord_embed_grad)                                                                                                        \
    X(linear)                                                                                                                  \
    X(linear_grad)                                                                                                             \
    X(layernorm)                                                                                                               \
    X(layernorm_grad)                                                                                                          \
    X(groupnorm)                                                                                                               \
    X(groupnorm_grad)                                                                                                          \
    X(dropout)                                                                                                                 \
    X(add)                                                                                                                     \
    X(product)                                                                                                                 \
    X(product_grad)                                                                                                            \
    X(copy_rows)                                                                                                               \
    X(mask_rows)                                                                                                               \
    X(relu)                                                                                                                    \
    X(relu_grad)                                                                                                               \
    X(sigmoid)                                                                                                                 \
    X(sigmoid_grad)                                                                                                            \
    X(adamw)                                                                                                                   \
    X(sum_squares)                                                                                                             \
    X(average)                                                                                                                 \
    X(iof_bias)                                                                                                                \
    X(iof_bias_grad)                                                                                                           \
    X(sample3d)                                                                                                                \
    X(sample3d_grad)                                                                                                           \
    X(mixing)                                                                                                                  \
    X(mixing_grad)

/* The same with a test of the arguments, cpu_avx512_TEST. X(operator, TEST) */
#define CPU_CHOOSY_KERNELS(X)                                                                                                  \
    X(conv, conv_accepts)                                                                                                      \
    X(conv_grad, conv_accepts)                                                                                                 \
    X(maxpool, maxpool_accepts)                                                                                                \
    X(maxpool_grad, maxpool_accepts)

/* Those that products of bf16 have a kernel of their own for, on AVX-512 with BF16. */
#define CPU_BF16_KERNELS(X)                                                                                                    \
    X(linear, linear_accepts)                                                                                                  \
    X(linear_grad, linear_accepts)                                                                                             \
    X(conv, conv_accepts)                                                                                                      \
    X(conv_grad, conv_accepts)

#define DECLARE(name)                                                                                                          \
    dd_status cpu_avx512_##name(dd_exec *exec, const void *args);                                                              \
    dd_status cpu_avx2_##name(dd_exec *exec, const void *args);
CPU_KERNELS(DECLARE)
#define DECLARE_CHOOSY(name, test) DECLARE(name)
CPU_CHOOSY_KERNELS(DECLARE_CHOOSY)
#undef DECLARE_CHOOSY
#undef DECLARE

#define DECLARE_BF16(name, test) dd_status cpu_avx512_bf16_##name(dd_exec *exec, const void *args);
CPU_BF16_KERNELS(DECLARE_BF16)
#undef DECLARE_BF16

int32_t cpu_avx512_bf16_linear_accepts(const void *args);
int32_t cpu_avx512_bf16_conv_accepts(const void *args);
int32_t cpu_avx512_conv_accepts(const void *args);
int32_t cpu_avx2_conv_accepts(const void *args);
int32_t cpu_avx512_maxpool_accepts(const void *args);
int32_t cpu_avx2_maxpool_accepts(const void *args);

dd_status cpu_openblas_matmul_f32(dd_exec *exec, const void *args);
dd_status cpu_openblas_matmul_f64(dd_exec *exec, const void *args);

#endif
