-- SPDX-License-Identifier: Apache-2.0
-- LuaJIT only: the module uses its FFI. The C library is installed on its own (see DETRDISTILL_LIBRARY in init.lua).
rockspec_format = "3.0"
package = "detrdistill"
version = "0.1.0-1"
source = { url = "git+https://github.com/libdetrdistill/libdetrdistill.git", dir = "libdetrdistill/bindings/lua" }
description = {
    summary = "Knowledge distillation for DETR-family detectors: LuaJIT bindings of libdetrdistill",
    license = "Apache-2.0",
}
dependencies = { "lua == 5.1" }
build = {
    type = "builtin",
    modules = {
        ["detrdistill"] = "detrdistill/init.lua",
        ["detrdistill.cdef"] = "detrdistill/cdef.lua",
    },
}
