#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the core and the CUDA module with nothing but gcc and nvcc and replays golden cases on a real GPU:
#   tests/golden/on_gpu.sh BUILD_DIR JSON_C_PREFIX GOLDEN_DIR
# JSON_C_PREFIX holds include/json-c and lib/libjson-c.a (carried to a machine without packages).
set -euo pipefail
cd "$(dirname "$0")/../.."
build=$1 jsonc=$2 golden=$3
mkdir -p "$build/cuda"
flags=(-std=gnu11 -D_GNU_SOURCE -O2 -fPIC -fvisibility=hidden -ffp-contract=off -Ilibdetrdistill -Iinclude "-I$jsonc/include"
    -DDD_BUILDING_LIBRARY)

compile() { # sources of the core, and the reference kernels for both real types
    local source name
    for source in libdetrdistill/{base,tensor,backend,match,kd,formats,eval,api}/*.c libdetrdistill/backend/ref/ref.c; do
        name=${source//\//_}
        echo "gcc ${flags[*]} -c $source -o $build/$name.o"
    done
    for source in libdetrdistill/backend/ref/*.c; do
        [ "$source" = libdetrdistill/backend/ref/ref.c ] && continue
        name=${source//\//_}
        echo "gcc ${flags[*]} -DDDI_REF_BITS=32 -c $source -o $build/$name.32.o"
        echo "gcc ${flags[*]} -DDDI_REF_BITS=64 -c $source -o $build/$name.64.o"
    done
    for source in libdetrdistill/backend/cuda/*.cu; do
        echo "nvcc -std=c++17 -O3 -gencode arch=compute_90,code=sm_90 -Xcompiler -fPIC,-fvisibility=hidden -Iinclude -Ilibdetrdistill" \
            "-c $source -o $build/cuda/$(basename "$source").o"
    done
}
compile | xargs -P "$(nproc)" -I{} sh -c '{}'
gcc -shared -o "$build/libdetrdistill.so" "$build"/*.o -Wl,--version-script=libdetrdistill/libdetrdistill.map "$jsonc/lib/libjson-c.a" \
    -lm -ldl -lpthread
nvcc -shared -cudart static -o "$build/libdetrdistill-cuda.so" "$build"/cuda/*.o -ldl
gcc -D_GNU_SOURCE -O1 -Iinclude -o "$build/golden" tests/golden/*.c -L"$build" -ldetrdistill -lm -ldl -Wl,-rpath,"$build"
"$build/golden" "$golden" --device cuda --modules "$build"
"$build/golden" "$golden" --device cuda --modules "$build" --type f64
