#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# build_wheel.sh BUILD_DIR [PYTHON]: the wheel with the built library in it, in bindings/python/dist. The sources stay untouched.
set -eu
build=$(cd "$1" && pwd)
python=${2-python3}
here=$(cd "$(dirname "$0")" && pwd)
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT

cp -R "$here/pyproject.toml" "$here/README.md" "$here/detrdistill" "$stage"
rm -rf "$stage/detrdistill/__pycache__"
mkdir -p "$stage/detrdistill/lib"
cp "$build/libdetrdistill/libdetrdistill.so.0" "$stage/detrdistill/lib/"
for module in "$build"/libdetrdistill/backend/*/libdetrdistill-*.so; do
    [ ! -e "$module" ] || cp "$module" "$stage/detrdistill/lib/"
done
platform=$("$python" -c 'import sysconfig; print(sysconfig.get_platform().replace("-", "_").replace(".", "_"))')
"$python" -m pip wheel -q --no-deps --config-settings="--build-option=--plat-name=$platform" -w "$here/dist" "$stage"
ls "$here"/dist/*.whl
