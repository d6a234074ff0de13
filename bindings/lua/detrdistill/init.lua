-- SPDX-License-Identifier: Apache-2.0
-- libdetrdistill for LuaJIT.
--
--     local dd = require("detrdistill")
--     local kd = dd.distiller { family = "deformable-detr", prior = "none", feature_mask = "none" }
--     kd:bind("student.logits", dd.tensor(pointer, {6, 2, 300, 80}, "f32"))
--     print(kd:step(), kd:terms()["loss.logits"])
--
-- Failures are Lua errors: tables with message, status, name, subject, image, stage, query, step that print as the library's
-- sentence. Objects may be collected in any order. One Lua state (one thread) at a time uses an object.
local ffi = require("ffi")
local constants = require("detrdistill.cdef")

-- ---- the library

local function exists(path)
    local file = io.open(path, "rb")
    return file and file:close() and path
end

-- By full path: dlopen searches no folder of ours. Last, the system's own search.
local function find_library()
    local chosen = os.getenv("DETRDISTILL_LIBRARY")
    if chosen then
        return chosen
    end
    local here = debug.getinfo(1, "S").source:match("^@(.*)/[^/]*$") or "."
    return exists(here .. "/libdetrdistill.so.0") or exists(here .. "/lib/libdetrdistill.so.0")
        or exists(here .. "/../../../build/release/libdetrdistill/libdetrdistill.so.0") or "libdetrdistill.so.0"
end

local path = find_library()
local lib = ffi.load(path)

local dd = { constants = constants, lib = lib }

local function check_library()
    local ok, version = pcall(function() return lib.dd_abi_version() end)
    if not ok or version ~= constants.DD_ABI_VERSION then
        error(("%s has interface %s; this module needs %d"):format(path, ok and version or "none", constants.DD_ABI_VERSION))
    end
    -- The library fills a view and we read it back: size and offsets must be the same.
    local memory, t = ffi.new("double[32]"), ffi.new("dd_tensor")
    lib.dd_tensor_init(t, memory, constants.DD_F64, 2, ffi.new("int64_t[2]", 3, 5), ffi.new("int64_t[2]", 7, 1),
        constants.DD_DEVICE_CPU, 0, constants.DD_TENSOR_READONLY)
    if t.struct_size ~= ffi.sizeof("dd_tensor") or t.dtype ~= constants.DD_F64 or t.ndim ~= 2 or t.data ~= memory
        or t.shape[1] ~= 5 or t.stride[0] ~= 7 or t.reserved ~= 0 or t.flags ~= constants.DD_TENSOR_READONLY then
        error("dd_tensor of " .. path .. " has another layout than this module")
    end
end
check_library()

-- ---- errors

local failure = {}
failure.__index = failure
failure.__tostring = function(self) return self.message end

-- What a callback raised: C code must not be unwound by it, so it waits until the library call returns.
local pending

local function place(which)
    local index = tonumber(lib.dd_error_place(which))
    return index >= 0 and index or nil
end

local function check(status)
    if pending then
        local raised = pending
        pending = nil
        error(raised.value, 0)
    end
    if status == 0 then
        return
    end
    error(setmetatable({
        message = ffi.string(lib.dd_error_message()), status = status, name = ffi.string(lib.dd_status_name(status)),
        subject = ffi.string(lib.dd_error_subject()), image = place(constants.DD_PLACE_IMAGE),
        stage = place(constants.DD_PLACE_STAGE), query = place(constants.DD_PLACE_QUERY), step = place(constants.DD_PLACE_STEP),
    }, failure), 0)
end

-- body() inside a callback: nil if it raised.
local function guarded(body, ...)
    local ok, value = pcall(body, ...)
    if ok then
        return value, true
    end
    pending = pending or { value = value }
    return nil, false
end

-- ---- handles

-- Calls create(out, ...) and returns the handle, freed when Lua collects it.
local function create(kind, free, maker, ...)
    local out = ffi.new(kind .. "*[1]")
    check(maker(out, ...))
    return ffi.gc(out[0], free)
end

-- {feature_mask = "none", split = true, weight = {logits = 2}} -> "feature-mask=none split=1 weight.logits=2"
local function option_words(options, prefix, words)
    words = words or {}
    for key, value in pairs(options or {}) do
        key = (prefix or "") .. key:gsub("_$", ""):gsub("_", "-")
        if type(value) == "table" then
            option_words(value, key .. ".", words)
        else
            local text = value
            if type(value) == "boolean" then
                text = value and "1" or "0"
            elseif type(value) == "number" then
                text = ("%.17g"):format(value)
            end
            if type(text) ~= "string" or text == "" or (key .. text):find("[%s%z]") then
                error("option " .. key .. ": a word without white space, a number or a boolean is needed", 0)
            end
            words[#words + 1] = key .. "=" .. text
        end
    end
    -- profile sets other options, so it comes first.
    table.sort(words, function(a, b)
        local first, second = a:find("^profile=") ~= nil, b:find("^profile=") ~= nil
        if first ~= second then
            return first
        end
        return a < b
    end)
    return table.concat(words, " ")
end

-- ---- tensors

local numbers = { f32 = "float", f64 = "double", i32 = "int32_t", i64 = "int64_t", u8 = "uint8_t" }
local codes = { f32 = constants.DD_F32, f64 = constants.DD_F64, f16 = constants.DD_F16, bf16 = constants.DD_BF16,
    i32 = constants.DD_I32, i64 = constants.DD_I64, u8 = constants.DD_U8 }

local tensor = {}
tensor.__index = tensor

local function wrap(view, owner)
    return setmetatable({ view = view, owner = owner }, tensor)
end

-- A view of memory: a pointer or array of the FFI, its shape, its element type ("f32" if left out), strides in elements (C
-- order if left out). An FFI array is kept alive; memory behind a bare pointer is the caller's.
function dd.tensor(pointer, shape, dtype, stride)
    local view, ndim = ffi.new("dd_tensor"), #shape
    if stride and #stride ~= ndim then
        error("shape and stride have different lengths", 2)
    end
    check(lib.dd_tensor_init(view, ffi.cast("void *", pointer), codes[dtype or "f32"] or -1, ndim,
        ffi.new("int64_t[?]", ndim, shape), stride and ffi.new("int64_t[?]", ndim, stride) or nil, constants.DD_DEVICE_CPU, 0, 0))
    return wrap(view, pointer)
end

-- New memory, all zeros.
function dd.zeros(shape, dtype)
    local count = 1
    for _, size in ipairs(shape) do
        count = count * size
    end
    return dd.tensor(ffi.new(numbers[dtype or "f32"] .. "[?]", math.max(count, 1)), shape, dtype)
end

function tensor:shape()
    local shape = {}
    for i = 1, self.view.ndim do
        shape[i] = tonumber(self.view.shape[i - 1])
    end
    return shape
end

function tensor:dtype()
    return ffi.string(lib.dd_dtype_name(self.view.dtype))
end

function tensor:count()
    local count = 1
    for _, size in ipairs(self:shape()) do
        count = count * size
    end
    return count
end

-- The typed pointer to the first element. Keep the tensor while you use it.
function tensor:data()
    local kind = numbers[self:dtype()] or error("LuaJIT has no " .. self:dtype(), 2)
    return ffi.cast(kind .. " *", self.view.data)
end

-- ---- contexts

local context = {}
context.__index = context

-- dd.context { device = "cpu", threads = 2, seed = 7 }
function dd.context(options)
    local handle = create("dd_context", lib.dd_context_free, lib.dd_context_create, option_words(options))
    return setmetatable({ handle = handle }, context)
end

local shared
local function shared_context()
    shared = shared or dd.context()
    return shared
end

function context:describe()
    local text = ffi.new("const char *[1]")
    check(lib.dd_context_describe(self.handle, text))
    return ffi.string(text[0])
end

function context:memory()
    local n = ffi.new("int64_t[5]")
    check(lib.dd_context_memory(self.handle, n, n + 1, n + 2, n + 3, n + 4))
    return { host_bytes = tonumber(n[0]), host_peak = tonumber(n[1]), device_bytes = tonumber(n[2]),
        device_peak = tonumber(n[3]), allocations = tonumber(n[4]) }
end

function context:cancel(cancelled)
    check(lib.dd_context_cancel(self.handle, cancelled == false and 0 or 1))
end

-- The options of "context", "matcher" or "distiller" as text.
function dd.options_help(object)
    local text = ffi.new("const char *[1]")
    check(lib.dd_options_help(object, text))
    return ffi.string(text[0])
end

function dd.version()
    return ffi.string(lib.dd_version())
end

function dd.has(feature)
    return lib.dd_has(feature) == 1
end

-- ---- assignment

-- Minimum-cost assignment. cost: a table of rows (numbers), or a tensor [n, m] of f32 or f64. Returns the column of each row,
-- counted from 1, nil where a row has none (then # is not the number of rows), and the total.
function dd.assign(cost)
    if getmetatable(cost) ~= tensor then
        local rows, cols = #cost, cost[1] and #cost[1] or 0
        local matrix = dd.zeros({ rows, cols }, "f64")
        local data = matrix:data()
        for i = 1, rows do
            if #cost[i] ~= cols then
                error("rows of unequal length", 2)
            end
            for j = 1, cols do
                data[(i - 1) * cols + j - 1] = cost[i][j]
            end
        end
        cost = matrix
    end
    local solve = cost:dtype() == "f32" and lib.dd_assign_f32 or cost:dtype() == "f64" and lib.dd_assign_f64
    if not solve or cost.view.ndim ~= 2 then
        error("the cost must be a matrix of f32 or f64", 2)
    end
    local shape, total = cost:shape(), ffi.new("double[1]")
    local match = ffi.new("int32_t[?]", math.max(shape[1], 1))
    local data = 0 < cost:count() and cost:data() or ffi.cast(numbers[cost:dtype()] .. " *", match)
    check(solve(data, shape[1], shape[2], cost.view.stride[0], cost.view.stride[1], match, total))
    local columns = {}
    for i = 1, shape[1] do
        columns[i] = match[i - 1] >= 0 and match[i - 1] + 1 or nil
    end
    return columns, total[0]
end

-- ---- distillers

local distiller = {}
distiller.__index = distiller

-- dd.distiller { family = "dino", weight = { logits = 2 } }, or dd.distiller(context, options)
function dd.distiller(first, options)
    local on = first
    if getmetatable(first) ~= context then
        on, options = shared_context(), first
    end
    local handle = create("dd_distiller", lib.dd_distiller_free, lib.dd_distiller_create, on.handle, option_words(options))
    return setmetatable({ handle = handle, bound = {} }, distiller)
end

-- Binds a dd.tensor, or an FFI view (dd_tensor) made elsewhere, by name; nil unbinds. The tensor is kept alive.
function distiller:bind(name, bound)
    local view = getmetatable(bound) == tensor and bound.view or bound
    check(lib.dd_distiller_bind(self.handle, name, view))
    self.bound[name] = bound
end

function distiller:step()
    local total = ffi.new("double[1]")
    check(lib.dd_distiller_step(self.handle, total))
    return total[0]
end
jit.off(distiller.step) -- compiled code may not call what calls back into Lua (trace, mean)

-- {name = value} of the last step.
function distiller:terms()
    local count, name, value = ffi.new("int32_t[1]"), ffi.new("const char *[1]"), ffi.new("double[1]")
    check(lib.dd_distiller_term_count(self.handle, count))
    local terms = {}
    for i = 0, count[0] - 1 do
        check(lib.dd_distiller_term_at(self.handle, i, name, value))
        terms[ffi.string(name[0])] = value[0]
    end
    return terms
end

-- A result as a tensor that the next step overwrites ("match.det", "cost.logits", ..).
function distiller:result(name)
    local view = ffi.new("dd_tensor")
    check(lib.dd_distiller_result(self.handle, name, view))
    return wrap(view, self.handle)
end

function distiller:set_weight(module, weight)
    check(lib.dd_distiller_set_weight(self.handle, module, weight))
end

function distiller:weight(module)
    local weight = ffi.new("double[1]")
    check(lib.dd_distiller_get_weight(self.handle, module, weight))
    return weight[0]
end

function distiller:prepare()
    check(lib.dd_distiller_prepare(self.handle))
end

-- {name = {value = tensor, grad = tensor}}: the distiller's own memory, which the caller's optimiser updates.
function distiller:parameters()
    local count, name, found = ffi.new("int32_t[1]"), ffi.new("const char *[1]"), {}
    check(lib.dd_distiller_parameter_count(self.handle, count))
    for i = 0, count[0] - 1 do
        local value, grad = ffi.new("dd_tensor"), ffi.new("dd_tensor")
        check(lib.dd_distiller_parameter_at(self.handle, i, name, value, grad))
        found[ffi.string(name[0])] = { value = wrap(value, self.handle), grad = wrap(grad, self.handle) }
    end
    return found
end

-- LuaJIT has few callback slots and keeps each until it is freed, so one serves all distillers: `user` is a key of this table.
local traces, next_key, entry = {}, 0, nil

local function receive(user, object, bytes)
    local trace = traces[tonumber(ffi.cast("intptr_t", user))]
    local more, ok = guarded(function() return trace(ffi.string(object, bytes)) end)
    return ok and more ~= false and 0 or 1
end

-- trace(json) gets a JSON object for each matched pair after each good step; false ends it; nil: off. An error that it raises
-- comes out of the step.
function distiller:set_trace(trace)
    if not trace then
        check(lib.dd_distiller_set_trace(self.handle, nil, nil))
        self.trace_key = nil
        return
    end
    entry = entry or ffi.cast("dd_trace_fn", receive)
    next_key = next_key + 1
    local key = next_key
    traces[key] = trace
    check(lib.dd_distiller_set_trace(self.handle, entry, ffi.cast("void *", ffi.cast("intptr_t", key))))
    -- Its collection ends the entry; held by the distiller's wrapper alone.
    self.trace_key = ffi.gc(ffi.new("int32_t[1]", key), function(held) traces[held[0]] = nil end)
end

-- ---- models, data sets, the trainer

local model, dataset, trainer = {}, {}, {}
model.__index, dataset.__index, trainer.__index = model, dataset, trainer

-- dd.model { backbone = "resnet-18", classes = 3 }: start values; options_help("architecture").
function dd.model(options, on)
    on = on or shared_context()
    return setmetatable({ handle = create("dd_model", lib.dd_model_free, lib.dd_model_create, on.handle, option_words(options)), context = on }, model)
end

-- A Hugging Face folder, or a checkpoint of another program; options_help("model").
function dd.load_model(name, options, on)
    on = on or shared_context()
    local handle = create("dd_model", lib.dd_model_free, lib.dd_model_load, on.handle, name, option_words(options))
    return setmetatable({ handle = handle, context = on }, model)
end

-- The folder must exist.
function model:save(folder)
    check(lib.dd_model_save(self.handle, folder))
end

-- A checkpoint of another program: "official", "mmdet2", ..; options_help("export").
function model:export(path, names, options)
    check(lib.dd_model_export(self.handle, path, option_words(options, nil, { "names=" .. names })))
end

local function class_names(self, count_classes, class_at)
    local count, name, names = ffi.new("int32_t[1]"), ffi.new("const char *[1]"), {}
    check(count_classes(self.handle, count))
    for label = 0, count[0] - 1 do
        check(class_at(self.handle, label, name))
        names[label + 1] = ffi.string(name[0])
    end
    return names
end

function model:classes()
    return class_names(self, lib.dd_model_class_count, lib.dd_model_class_at)
end

function model:set_classes(names)
    for label, name in ipairs(names) do
        check(lib.dd_model_set_class(self.handle, label - 1, name))
    end
end

-- Tensors as a batch has them: "pixels" and "image.sizes" (or nil).
function model:forward(pixels, sizes)
    check(lib.dd_model_forward(self.handle, pixels.view, sizes and sizes.view))
end

-- The best detections of a picture (from 0) of the last pass, whose file is width x height: {box, label, score, query}; box is
-- {x, y, width, height} in pixels, label and query count from 0.
function model:detections(image, width, height, most, least_score)
    local count, queries = ffi.new("int32_t[1]"), ffi.new("const int32_t *[1]")
    local boxes, labels, scores = ffi.new("const double *[1]"), ffi.new("const int64_t *[1]"), ffi.new("const double *[1]")
    check(lib.dd_model_detections(self.handle, image, width, height, most or 100, least_score or 0, count, boxes, labels, scores, queries))
    local found = {}
    for i = 0, count[0] - 1 do
        local b = boxes[0] + 4 * i
        found[i + 1] = { box = { b[0], b[1], b[2], b[3] }, label = tonumber(labels[0][i]), score = scores[0][i], query = queries[0][i] }
    end
    return found
end

-- dd.dataset("coco/", { split = "val" }); options_help("dataset").
function dd.dataset(name, options)
    return setmetatable({ handle = create("dd_dataset", lib.dd_dataset_free, lib.dd_dataset_open, name, option_words(options)) }, dataset)
end

function dataset:count()
    local count = ffi.new("int32_t[1]")
    check(lib.dd_dataset_image_count(self.handle, count))
    return count[0]
end

function dataset:classes()
    return class_names(self, lib.dd_dataset_class_count, function(handle, label, name)
        return lib.dd_dataset_class_at(handle, label, nil, name)
    end)
end

local batch_names = { "pixels", "image.sizes", "image.originals", "image.ids", "image.indices", "gt.boxes", "gt.labels", "gt.offsets" }

-- for batch in data:batches { mode = "eval" } do: {name = tensor}, valid until the next one; options_help("loader").
function dataset:batches(options)
    local loader = create("dd_loader", lib.dd_loader_free, lib.dd_loader_create, self.handle, option_words(options))
    local images = ffi.new("int32_t[1]")
    return function()
        check(lib.dd_loader_next(loader, images))
        if images[0] == 0 then
            return nil
        end
        local batch = {}
        for _, name in ipairs(batch_names) do
            local view = ffi.new("dd_tensor")
            check(lib.dd_loader_tensor(loader, name, view))
            batch[name] = wrap(view, loader)
        end
        return batch
    end
end

-- dd.trainer { student = model, train = dataset, validation = dataset, teacher = model, folder = "run1",
--     distiller = { profile = "paper" }, options = { epochs = 12 } }; the first two must be there.
function dd.trainer(run)
    local function handle_of(object)
        return object and object.handle
    end
    local handle = create("dd_trainer", lib.dd_trainer_free, lib.dd_trainer_create, run.student.handle, handle_of(run.teacher),
        run.train.handle, handle_of(run.validation), run.folder, option_words(run.options),
        run.distiller and option_words(run.distiller))
    return setmetatable({ handle = handle, run_of = run }, trainer)
end

function trainer:step()
    local loss = ffi.new("double[1]")
    check(lib.dd_trainer_step(self.handle, loss))
    return loss[0]
end

local endings = { [0] = "finished", "reached", "stopped", "no gain" }

-- Runs to the end. progress(event, {name = value}) may return true to stop after the step.
function trainer:run(progress)
    local why = ffi.new("int32_t[1]")
    local receiver = progress and ffi.cast("dd_train_fn", function(_, event, names, values, count)
        local stop, ok = guarded(function()
            local found = {}
            for i = 0, count - 1 do
                found[ffi.string(names[i])] = values[i]
            end
            return progress(event, found)
        end)
        return (stop or not ok) and 1 or 0
    end)
    check(lib.dd_trainer_set_progress(self.handle, receiver, nil))
    local good, failed = pcall(function() check(lib.dd_trainer_run(self.handle, 0, why)) end)
    lib.dd_trainer_set_progress(self.handle, nil, nil)
    if receiver then
        receiver:free()
    end
    if not good then
        error(failed, 0)
    end
    return endings[why[0]]
end
jit.off(trainer.run) -- compiled code may not call what calls back into Lua

-- {name = value}: step, epoch, ["loss.total"], ap, ..
function trainer:values()
    local count, name, value, found = ffi.new("int32_t[1]"), ffi.new("const char *[1]"), ffi.new("double[1]"), {}
    check(lib.dd_trainer_value_count(self.handle, count))
    for i = 0, count[0] - 1 do
        check(lib.dd_trainer_value_at(self.handle, i, name, value))
        found[ffi.string(name[0])] = value[0]
    end
    return found
end

function trainer:export(folder)
    check(lib.dd_trainer_export(self.handle, folder))
end

-- ---- files

-- {name = tensor} of a safetensors file, mapped, not copied.
function dd.load(name)
    local file = create("dd_tensorfile", lib.dd_tensorfile_free, lib.dd_tensorfile_open, name)
    local count, key, found = ffi.new("int32_t[1]"), ffi.new("const char *[1]"), {}
    check(lib.dd_tensorfile_count(file, count))
    for i = 0, count[0] - 1 do
        local view = ffi.new("dd_tensor")
        check(lib.dd_tensorfile_at(file, i, key, view))
        found[ffi.string(key[0])] = wrap(view, file)
    end
    return found
end

-- Writes {name = tensor}, whole or not at all.
function dd.save(name, tensors)
    local file = create("dd_tensorfile", lib.dd_tensorfile_free, lib.dd_tensorfile_create)
    for key, each in pairs(tensors) do
        check(lib.dd_tensorfile_set(file, key, each.view))
    end
    check(lib.dd_tensorfile_save(file, name))
end

return dd
