-- SPDX-License-Identifier: Apache-2.0
-- One distillation step on the tensors of a safetensors file that have the library's names: kd_step.lua CASE
local dd = require("detrdistill")

local kd = dd.distiller { family = "deformable-detr" }
for name, tensor in pairs(dd.load(arg[1])) do
    kd:bind(name, tensor)
end
print(("total %.8g"):format(kd:step()))
