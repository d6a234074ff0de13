-- SPDX-License-Identifier: Apache-2.0
-- Trains a small detector on generated scenes and keeps it as a Hugging Face folder: train.lua FOLDER
local dd = require("detrdistill")

local folder, scenes = arg[1] or "run", "scenes:train=8,val=4,size=64,classes=3"
local student = dd.model({ backbone = "resnet-18", classes = 3, queries = 10, width = 32, levels = 3, heads = 2, ffn = 64,
    decoder_layers = 2, encoder_layers = 1, stem = 8, widths = "8,16,24,32", depths = "1,1,1,1" }, dd.context { device = "cpu", seed = 7 })
local trainer = dd.trainer {
    student = student, folder = folder,
    train = dd.dataset(scenes, { split = "train" }), validation = dd.dataset(scenes, { split = "val" }),
    options = { epochs = 2, sizes = 64, max_size = 0, crop = 0, warmup = 0 },
}
trainer:run(function(event, values)
    if event == 3 then -- an evaluation is done
        print(("step %g  steps %g  epoch %g"):format(values.step, values.steps, values.epoch))
    end
end)
print(("loss %.4f, the student is in %s/student"):format(trainer:values()["loss.total"], folder))
