#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Sums must have an order that the shape fixes: no atomic operation on floating-point numbers in the module's PTX.
# no_float_atomics.sh NVCC SOURCE_DIRECTORY INCLUDE_DIRECTORY
found=0
for file in "$2"/*.cu; do
    ptx=$("$1" -std=c++17 -I"$3" -arch=compute_90 -ptx "$file" -o -) || exit 1
    echo "$ptx" | grep -q '^\.visible \.entry\|^\.entry\|\.entry ' || [ "$(basename "$file")" = module.cu ] || found=1
    if echo "$ptx" | grep -nE '(atom|red)\.[a-z0-9.]*\.(f16|bf16|f16x2|bf16x2|f32|f64)'; then
        echo "in $file"
        found=1
    fi
done
exit $found
