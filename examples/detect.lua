-- SPDX-License-Identifier: Apache-2.0
-- Runs a model over pictures and prints the best detection of each: detect.lua MODEL DATA SIZE
local dd = require("detrdistill")

local model = dd.load_model(arg[1], { gradients = 0 })
local classes = model:classes()
for batch in dd.dataset(arg[2]):batches { mode = "eval", max_size = 0, sizes = arg[3] } do
    model:forward(batch["pixels"], batch["image.sizes"])
    local sizes = batch["image.originals"]:data()
    for image = 0, batch["image.originals"]:shape()[1] - 1 do
        for _, found in ipairs(model:detections(image, sizes[2 * image], sizes[2 * image + 1], 1)) do
            print(("%s %.3f at %.1f %.1f %.1f %.1f"):format(classes[found.label + 1], found.score, unpack(found.box)))
        end
    end
end
