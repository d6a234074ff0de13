#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds the CUDA module and its tests with nvcc and gcc alone, on a machine with a GPU, and runs them: every kernel against the
# reference, compute-sanitizer's tools, times. Logs go to $OUT (or build-gpu/). Run from the repository's root; about 5 minutes.
set -u
out=${OUT:-build-gpu}
build="build-gpu"
mkdir -p "$out" "$build/o"
export PATH=$PATH:/usr/local/cuda/bin
sources=libdetrdistill/backend/cuda
failed=0

step() { # name, seconds, command ..: runs it, keeps its output, tells its status
    local name=$1 limit=$2 start=$SECONDS status
    shift 2
    if [ "$(type -t "$1")" = function ]; then
        "$@" > "$out/$name.log" 2>&1
    else
        timeout "$limit" "$@" > "$out/$name.log" 2>&1
    fi
    status=$?
    echo "== $name: status $status, $((SECONDS - start)) s"
    [ $status -eq 0 ] || failed=$((failed + 1))
    return $status
}

build_module() {
    local pids=() file
    for file in "$sources"/*.cu; do
        nvcc -std=c++17 -O3 -lineinfo -Iinclude -gencode arch=compute_90,code=sm_90 -cudart static -Werror all-warnings \
            -Xptxas -v -Xcompiler -Wall,-Wextra,-fPIC,-fvisibility=hidden,-fno-exceptions,-fno-threadsafe-statics \
            -c "$file" -o "$build/o/$(basename "$file").o" &
        pids+=($!)
    done
    for file in "${pids[@]}"; do wait "$file" || return 1; done
    nvcc -shared -cudart static "$build"/o/*.cu.o -ldl -lpthread -o "$build/libdetrdistill-cuda.so"
}

build_tests() {
    local flags=(-std=gnu11 -O2 -Wall -ffp-contract=off -D_GNU_SOURCE -Iinclude -Ilibdetrdistill -Itests/kernels -Itests/cuda) file bits
    rm -f "$build"/o/ref-*.o
    for file in libdetrdistill/backend/ref/*.c; do
        for bits in 32 64; do
            [ "$(basename "$file")" = ref.c ] && [ $bits = 64 ] && continue
            gcc "${flags[@]}" -DDDI_REF_BITS=$bits -c "$file" -o "$build/o/ref-$bits-$(basename "$file").o" || return 1
        done
    done
    gcc "${flags[@]}" tests/cuda/test_cuda.c tests/cuda/on_device.c tests/cuda/more_cases.c tests/kernels/cases.c tests/kernels/attention_cases.c tests/kernels/dense_cases.c tests/kernels/layer_cases.c tests/kernels/run.c \
        "$build"/o/ref-*.o -ldl -lm -lpthread -o "$build/test_cuda" &&
        gcc "${flags[@]}" tests/cuda/time_cuda.c tests/cuda/on_device.c tests/kernels/cases.c tests/kernels/attention_cases.c tests/kernels/dense_cases.c tests/kernels/layer_cases.c tests/kernels/run.c "$build"/o/ref-*.o -ldl -lm -o "$build/time_cuda"
}

nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
nvcc --version | tail -2 | head -1
git log -1 --format='commit %h' 2>/dev/null
step build-module 200 build_module || { tail -40 "$out/build-module.log"; exit 1; }
step build-tests 120 build_tests || { tail -40 "$out/build-tests.log"; exit 1; }
module=$PWD/$build/libdetrdistill-cuda.so
step test 200 "$build/test_cuda" "$module" 60
grep -E "FAILED|passed," "$out/test.log" | cut -c1-300 | tail -40
step times 100 "$build/time_cuda" "$module"
cat "$out/times.log"
for tool in memcheck racecheck initcheck synccheck; do
    step "$tool" 60 compute-sanitizer --tool "$tool" --error-exitcode 9 "$build/test_cuda" "$module" 3
    grep -E "ERROR SUMMARY|RACECHECK SUMMARY|FAILED|passed,|hazard" "$out/$tool.log" | sort | uniq -c | sort -rn | head -8 | cut -c1-300
done
ldd "$module" > "$out/libraries.log"
echo "== $failed steps failed"
[ $failed -eq 0 ]
