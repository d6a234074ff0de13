-- SPDX-License-Identifier: Apache-2.0
-- The LuaJIT bindings: test_lua.lua ROOT, with DETRDISTILL_LIBRARY set. C sizes and offsets come as "NAME VALUE" lines from the
-- program layout (second argument).
local root, layout = arg[1], arg[2]
package.path = root .. "/bindings/lua/?.lua;" .. root .. "/bindings/lua/?/init.lua;" .. package.path
local ffi = require("ffi")
local dd = require("detrdistill")
local case = root .. "/tests/data/kd_case.safetensors"

local passed, failed = 0, 0

local function test(name, body)
    local ok, why = xpcall(body, function(raised) return debug.traceback(tostring(raised), 2) end)
    if ok then
        passed = passed + 1
    else
        failed = failed + 1
        print("FAILED " .. name .. ": " .. why)
    end
end

local function equal(found, expected)
    if found ~= expected then
        error(("found %s instead of %s"):format(tostring(found), tostring(expected)), 2)
    end
end

local function near(found, expected, tolerance)
    if not (math.abs(found - expected) <= tolerance) then
        error(("found %.12g instead of %.12g"):format(found, expected), 2)
    end
end

local function fails(expected, body, ...)
    local ok, why = pcall(body, ...)
    if ok then
        error("no error was raised", 2)
    end
    if not tostring(why):find(expected, 1, true) then
        error(("raised %s, not one with %s"):format(tostring(why), expected), 2)
    end
    return why
end

local function bound(options)
    local kd = dd.distiller(options or {})
    for name, tensor in pairs(dd.load(case)) do
        kd:bind(name, tensor)
    end
    return kd
end

-- As `golden total` in the file's metadata.
local function golden()
    local file, text = ffi.new("dd_tensorfile *[1]"), ffi.new("const char *[1]")
    assert(dd.lib.dd_tensorfile_open(file, case) == 0 and dd.lib.dd_tensorfile_metadata(file[0], "total", text) == 0)
    local total = tonumber(ffi.string(text[0]))
    dd.lib.dd_tensorfile_free(file[0])
    return total
end

local function resident_kib()
    for line in io.lines("/proc/self/status") do
        local kib = line:match("^VmRSS:%s*(%d+)")
        if kib then
            return tonumber(kib)
        end
    end
end

test("sizes, offsets and constants equal C", function()
    local seen = 0
    for line in io.popen(layout):lines() do
        local name, value = line:match("^(%S+) (%S+)$")
        local struct, field = name:match("^(.-)%.(.+)$")
        if field then
            equal(ffi.offsetof(struct, field), tonumber(value))
        elseif dd.constants[name] then
            equal(dd.constants[name], tonumber(value))
        else
            equal(ffi.sizeof(name), tonumber(value))
        end
        seen = seen + 1
    end
    assert(seen > 60, seen)
end)

test("total is the golden one", function()
    local kd = bound { family = "deformable-detr" }
    local total = kd:step()
    near(total / golden(), 1, 1e-6)
    local terms = kd:terms()
    near(terms["loss.det"] + terms["loss.logits"] + terms["loss.features"] + terms["loss.prior"], terms["loss.total"], 1e-9)
end)

test("gradient is written in place", function()
    local kd = bound()
    local file = dd.load(case)
    local grad = dd.zeros(file["student.logits"]:shape(), "f32")
    kd:bind("student.logits.grad", grad)
    kd:step()
    local sum = 0
    for i = 0, grad:count() - 1 do
        sum = sum + math.abs(grad:data()[i])
    end
    assert(sum > 0)
    -- One element against a difference quotient.
    local logits = dd.zeros(grad:shape(), "f64")
    for i = 0, grad:count() - 1 do
        logits:data()[i] = file["student.logits"]:data()[i]
    end
    kd:bind("student.logits.grad", nil)
    kd:bind("student.logits", logits)
    local at, h = 17, 1e-5
    logits:data()[at] = logits:data()[at] + h
    local up = kd:step()
    logits:data()[at] = logits:data()[at] - 2 * h
    near((up - kd:step()) / (2 * h), grad:data()[at], 1e-6)
end)

test("results and parameters", function()
    local kd = bound()
    kd:step()
    local match = kd:result("match.det")
    equal(match:dtype(), "i32")
    equal(table.concat(match:shape(), "x"), "3x2x36")
    local narrow = dd.zeros({ 2, 5, 5, 7 })
    local old = kd:parameters()
    equal(next(old), nil)
    kd:bind("student.features.0", narrow)
    kd:step()
    local found = kd:parameters()
    equal(table.concat(found["adaptor.0.weight"].value:shape(), "x"), table.concat(found["adaptor.0.weight"].grad:shape(), "x"))
end)

test("errors", function()
    local why = fails("family", dd.distiller, { familly = "dino" })
    equal(why.name, "DD_ERR_OPTION")
    equal(why.status, dd.constants.DD_ERR_OPTION)
    equal(why.image, nil)
    fails("student.logits", function() dd.distiller {}:bind("student.logit", dd.zeros { 1, 1, 1, 1 }) end)
    fails("cannot open", dd.load, "/nonexistent")
    fails("without white space", dd.distiller, { family = "two words" })
    local kd = bound()
    local logits = dd.zeros({ 3, 2, 36, 16 })
    logits:data()[((1 * 2 + 1) * 36 + 4) * 16] = 0 / 0
    kd:bind("student.logits", logits)
    why = fails("student.logits", kd.step, kd)
    equal(why.stage .. "," .. why.image .. "," .. why.query, "1,1,4")
end)

test("weights and option words", function()
    local kd = bound { weight = { logits = 3 }, det = true }
    equal(kd:weight("logits"), 3)
    local total, terms = kd:step(), kd:terms()
    kd:set_weight("logits", 0)
    near(total - kd:step(), 3 * terms["loss.logits"], 1e-9)
end)

test("assignment is optimal", function()
    local function best(cost, row, used)
        if row > #cost then
            return 0
        end
        local lowest = math.huge
        for j = 1, #cost[row] do
            if not used[j] then
                used[j] = true
                lowest = math.min(lowest, cost[row][j] + best(cost, row + 1, used))
                used[j] = nil
            end
        end
        return lowest
    end
    math.randomseed(7)
    for _ = 1, 200 do
        local cost, rows = {}, math.random(1, 5)
        local cols = math.random(rows, 6)
        for i = 1, rows do
            cost[i] = {}
            for j = 1, cols do
                cost[i][j] = math.random() * 2 - 1
            end
        end
        local columns, total = dd.assign(cost)
        local sum = 0
        for i = 1, rows do
            sum = sum + cost[i][columns[i]]
        end
        near(sum, total, 1e-12)
        near(total, best(cost, 1, {}), 1e-12)
    end
    local columns = dd.assign { { 5 }, { 1 }, { 3 } }
    assert(columns[1] == nil and columns[2] == 1 and columns[3] == nil)
    equal(#dd.assign {}, 0)
    local transposed = dd.tensor(ffi.new("float[6]", { 4, 1, 3, 2, 0, 5 }), { 2, 3 }, "f32", { 1, 2 }) -- (4 3 0; 1 2 5)
    columns = dd.assign(transposed)
    equal(columns[1] .. "," .. columns[2], "3,1")
    fails("row", dd.assign, { { 1, 2 }, { 3, 0 / 0 } })
end)

test("trace, and errors inside it", function()
    local kd, seen = bound(), 0
    kd:set_trace(function(json)
        assert(json:match("^{.*}$"))
        seen = seen + 1
    end)
    kd:step()
    equal(seen, 3 * 2 * 36)
    kd:set_trace(function()
        seen = seen + 1
        return false
    end)
    kd:step()
    equal(seen, 3 * 2 * 36 + 1)
    kd:set_trace(function() error("from inside", 0) end)
    equal(fails("from inside", kd.step, kd), "from inside")
    kd:set_trace(nil)
    kd:step()
    -- Many distillers share one callback slot.
    for _ = 1, 3000 do
        dd.distiller {}:set_trace(function() end)
    end
    collectgarbage()
    local again = bound()
    again:set_trace(function() seen = -1; return false end)
    again:step()
    equal(seen, -1)
end)

test("collection in any order", function()
    local orders = { { 1, 2, 3, 4 }, { 4, 3, 2, 1 }, { 2, 1, 4, 3 }, { 3, 1, 4, 2 }, { 1, 4, 2, 3 }, { 2, 4, 1, 3 } }
    for _, order in ipairs(orders) do
        local context = dd.context { device = "ref", threads = 1 }
        local kd = dd.distiller(context, {})
        local tensors = dd.load(case)
        kd:bind("student.logits", tensors["student.logits"])
        local objects = { context, kd, tensors, tensors["gt.boxes"] }
        context, kd, tensors = nil, nil, nil
        for _, which in ipairs(order) do
            objects[which] = nil
            collectgarbage()
            collectgarbage()
            if objects[2] then
                equal(objects[2]:weight("det"), 1)
            end
            if objects[4] then
                equal(objects[4]:shape()[2], 4)
                assert(objects[4]:data()[0] > 0)
            end
        end
    end
end)

test("a bound array lives as long as its binding", function()
    local kd = bound()
    kd:bind("student.logits", dd.zeros { 3, 2, 36, 16 })
    for _ = 1, 20 do
        collectgarbage()
    end
    local first = kd:step()
    for _ = 1, 50 do
        ffi.new("float[?]", 3 * 2 * 36 * 16, 1)
    end
    equal(kd:step(), first)
end)

test("a model in other names", function()
    local name = os.tmpname()
    local model = dd.model { backbone = "resnet-18", stem = 8, depths = "1,1,1,1", widths = "8,8,8,8", width = 32, heads = 4, ffn = 32, queries = 3,
                             classes = 80 }
    model:export(name, "official", { coco_ids = true })
    equal(dd.load(name)["class_embed.5.weight"]:shape()[1], 91)
    os.remove(name)
end)

test("files round trip", function()
    local name = os.tmpname()
    dd.save(name, { a = dd.tensor(ffi.new("double[6]", { 1, 2, 3, 4, 5, 6 }), { 3, 2 }, "f64", { 1, 3 }) })
    local a = dd.load(name).a
    os.remove(name)
    equal(table.concat(a:shape(), "x"), "3x2")
    equal(a:data()[1], 4)
end)

test("a hundred thousand calls do not grow", function()
    local tensor, cost = dd.zeros { 1, 1, 4, 3 }, dd.tensor(ffi.new("float[9]", { 4, 1, 3, 2, 0, 5, 3, 2, 2 }), { 3, 3 })
    local kd, context = dd.distiller { det = true }, dd.context { device = "ref" }

    local function round(count)
        for i = 1, count do
            dd.assign(cost)
            kd:bind("student.logits", tensor)
            kd:weight("det")
            pcall(kd.bind, kd, "nothing", tensor)
            if i % 4 == 0 then
                dd.distiller(context, {})
            end
            if i % 1000 == 0 then
                collectgarbage()
            end
        end
        collectgarbage()
        collectgarbage()
    end

    round(5000)
    local before, held = resident_kib(), context:memory().host_bytes
    round(25000)
    assert(resident_kib() - before < 2048, resident_kib() - before)
    equal(context:memory().host_bytes, held)
end)

print(("%d passed, %d failed"):format(passed, failed))
os.exit(failed == 0 and 0 or 1)
