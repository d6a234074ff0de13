# SPDX-License-Identifier: Apache-2.0
"""The Python bindings with nothing but the standard library: this process never imports NumPy or torch."""
import array
import ctypes
import gc
import itertools
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import weakref

from support import DATA, ROOT, case_inputs, random_matrix, resident_kib, seeded

import detrdistill as dd
from detrdistill import _api, _library, _tensor, errors


def bound_distiller(**options):
    kd = dd.Distiller(**options)
    for name, tensor in dd.load(DATA).items():
        kd.bind(name, tensor)
    return kd


def brute_force(cost):
    rows, cols = len(cost), len(cost[0])
    if rows > cols:
        return brute_force([list(column) for column in zip(*cost)])
    return min(sum(cost[i][j] for i, j in enumerate(chosen)) for chosen in itertools.permutations(range(cols), rows))


class Generated(unittest.TestCase):
    generate = ROOT / "bindings" / "generate.py"

    def run_check(self, *arguments):
        return subprocess.run([sys.executable, self.generate, "--check", *arguments], capture_output=True, text=True)

    def changed_headers(self, old, new):
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        for header in (ROOT / "include" / "detrdistill").glob("*.h"):
            (folder / header.name).write_text(header.read_text().replace(old, new))
        return str(folder)

    def test_generated_files_are_up_to_date(self):
        done = self.run_check()
        self.assertEqual((done.returncode, done.stdout), (0, ""))

    def test_a_changed_prototype_is_seen(self):
        folder = self.changed_headers("dd_distiller_step(dd_distiller *distiller, double *total)",
                                      "dd_distiller_step(dd_distiller *distiller, float *total)")
        done = self.run_check("--headers", folder)
        self.assertEqual(done.returncode, 1)
        self.assertIn('+    ("dd_distiller_step", dd_status, [P(dd_distiller), P(c_float)]),', done.stdout)

    def test_what_is_not_understood_is_an_error(self):
        folder = self.changed_headers("typedef struct dd_eval dd_eval;", "typedef union dd_eval dd_eval;")
        done = self.run_check("--headers", folder)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("eval.h: not understood", done.stderr)


class Layout(unittest.TestCase):
    """Sizes and offsets as the C compiler has them."""

    @unittest.skipUnless(os.environ.get("LAYOUT_PROGRAM"), "SKIPPED: LAYOUT_PROGRAM names no program (make_layout.py)")
    def test_structs_and_constants_equal_c(self):
        found = dict(line.split() for line in subprocess.check_output([os.environ["LAYOUT_PROGRAM"]], text=True).splitlines())
        self.assertGreater(len(found), 60)
        for name, value in found.items():
            struct, _, field = name.partition(".")
            ours = getattr(_api, struct)
            if field:
                ours = getattr(ours, field).offset
            elif isinstance(ours, type):
                ours = ctypes.sizeof(ours)
            self.assertEqual(ours, int(value), name)
        self.assertEqual({name for name in vars(_api) if name.startswith("DD_")} - set(found), set())

    def test_another_layout_is_refused(self):
        class Shifted(ctypes.Structure):
            _fields_ = [("extra", ctypes.c_uint32 * 2)] + _api.dd_tensor._fields_

        class Library:
            _name = "a library with another dd_tensor"

            @staticmethod
            def dd_tensor_init(tensor, *arguments):
                shifted = Shifted()
                function = ctypes.CDLL(os.environ["DETRDISTILL_LIBRARY"]).dd_tensor_init
                address = ctypes.addressof(shifted) + Shifted.struct_size.offset
                function(ctypes.c_void_p(address), ctypes.c_void_p(arguments[0]), *arguments[1:])
                ctypes.memmove(ctypes.addressof(tensor), ctypes.addressof(shifted), ctypes.sizeof(tensor))

        with self.assertRaisesRegex(ImportError, "another layout"):
            _library._check_layout(Library)
        _library._check_layout(_library.lib)

    def test_library_that_is_none(self):
        code = "import sys; sys.path.insert(0, sys.argv[1]); import detrdistill"
        for path, reason in (("/nonexistent/libdetrdistill.so.0", "cannot load"), ("libm.so.6", "not a libdetrdistill")):
            done = subprocess.run([sys.executable, "-c", code, ROOT / "bindings" / "python"], capture_output=True, text=True,
                                  env=dict(os.environ, DETRDISTILL_LIBRARY=path))
            self.assertEqual(done.returncode, 1)
            self.assertIn("ImportError", done.stderr)
            self.assertIn(reason, done.stderr)


class Errors(unittest.TestCase):
    def test_every_status_has_its_class(self):
        statuses = {name: value for name, value in vars(_api).items() if name.startswith("DD_ERR_")}
        self.assertEqual(set(errors.CLASSES), set(statuses.values()))
        for name, value in statuses.items():
            self.assertEqual((errors.CLASSES[value].name, errors.CLASSES[value].status), (name, value))

    def test_option(self):
        with self.assertRaises(errors.OptionError) as caught:
            dd.Distiller(familly="dino")
        self.assertIn("family", str(caught.exception))
        self.assertIn("familly", caught.exception.subject)
        self.assertIsInstance(caught.exception, ValueError)

    def test_option_words(self):
        for bad in ("two words", "", "tab\t"):
            with self.assertRaises(ValueError):
                dd.Distiller(family=bad)
        with self.assertRaises(ValueError):
            dd.Distiller(**{"family=dino det": 1})
        kd = dd.Distiller(weight={"logits": 2, "prior": 0.25}, prior=None, det=True)
        self.assertEqual((kd.get_weight("logits"), kd.get_weight("prior"), kd.get_weight("det")), (2, 0.25, 1))

    def test_a_profile_never_overrides_what_is_said_beside_it(self):
        inputs = case_inputs(dd)
        first, last = (dd.Distiller(**options)(**inputs) for options in (
            {"profile": "as-published", "contrastive": False}, {"contrastive": False, "profile": "as-published"}))
        self.assertEqual(dict(first), dict(last))

    def test_missing_tensor_comes_through(self):
        inputs = case_inputs(dd)
        del inputs["prior"]
        with self.assertRaises(errors.StateError) as caught:
            dd.Distiller()(**inputs)
        self.assertIn("prior.logits", str(caught.exception))
        self.assertEqual(dd.Distiller(prior="none")(**inputs).total > 0, True)

    def test_place(self):
        kd = bound_distiller()
        logits = dd.load(DATA)["student.logits"].copy()
        flat = (ctypes.c_float * math.prod(logits.shape)).from_address(logits._view.data)
        stage, image, query = 2, 1, 7
        flat[((stage * logits.shape[1] + image) * logits.shape[2] + query) * logits.shape[3]] = float("nan")
        kd.bind("student.logits", logits)
        with self.assertRaises(errors.NonFiniteError) as caught:
            kd.step()
        error = caught.exception
        self.assertEqual((error.subject, error.image, error.stage, error.query), ("student.logits", 1, 2, 7))

    def test_unknown_name(self):
        with self.assertRaises(KeyError) as caught:
            dd.Distiller().bind("student.logit", dd.Tensor.zeros((1, 1, 1, 1)))
        self.assertIn("student.logits", str(caught.exception))
        with self.assertRaises(errors.NotFoundError):
            bound = bound_distiller()
            bound.step()
            bound.result("match.nothing")

    def test_file_errors(self):
        with self.assertRaises(OSError):
            dd.load("/nonexistent/file")
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"not a safetensors file at all")
            file.flush()
            with self.assertRaises(errors.FormatError):
                dd.load(file.name)

    def test_closed_handles_answer(self):
        kd = bound_distiller()
        kd.close()
        kd.close()
        with self.assertRaises(errors.ArgumentError):
            kd.step()


class Views(unittest.TestCase):
    def test_array_is_used_in_place(self):
        values = array.array("f", [1, 2, 3])
        view, kept = _tensor.view(values)
        self.assertEqual((view.data, view.ndim, view.shape[0], view.stride[0]), (values.buffer_info()[0], 1, 3, 1))
        with self.assertRaises(BufferError):
            values.append(4)  # the export is held: the memory cannot move
        del view, kept
        gc.collect()
        values.append(4)

    def test_readonly_and_strided_memory(self):
        memory = memoryview(bytes(range(24))).cast("B", [4, 6])
        view, _ = _tensor.view(memory)
        self.assertEqual((view.dtype, view.flags, list(view.shape[:2])), (_api.DD_U8, _api.DD_TENSOR_READONLY, [4, 6]))
        backwards, _ = _tensor.view(memoryview(array.array("d", range(6)))[::-2])
        self.assertEqual((backwards.shape[0], backwards.stride[0]), (3, -2))
        self.assertEqual(ctypes.c_double.from_address(backwards.data).value, 5.0)

    def test_ctypes_arrays(self):
        view, _ = _tensor.view(((ctypes.c_double * 4) * 3)())
        self.assertEqual((view.dtype, list(view.shape[:2]), list(view.stride[:2])), (_api.DD_F64, [3, 4], [4, 1]))

    def test_refusals(self):
        for bad in (7, "text", object(), memoryview(array.array("h", [1]))):
            with self.assertRaises(TypeError):
                _tensor.view(bad)
        with self.assertRaises(ValueError):
            _tensor.view([[1, 2], [3]])

    def test_files_round_trip(self):
        original = dd.load(DATA)
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "copy.safetensors"
            dd.save(path, dict(original, extra=[[1.5, 2.5]]), metadata={"case": "copy"})
            again = dd.load(path)
            self.assertEqual({name: (t.dtype, t.shape, t.tolist()) for name, t in original.items()},
                             {name: (t.dtype, t.shape, t.tolist()) for name, t in again.items() if name != "extra"})
            self.assertEqual((again["extra"].dtype, again["extra"].tolist()), ("f64", [[1.5, 2.5]]))
            self.assertEqual(dd.metadata(path, "case"), "copy")
            with self.assertRaises(KeyError):
                dd.metadata(path, "nothing")

    def test_model_in_other_names(self):
        model = dd.Model(backbone="resnet-18", stem=8, depths="1,1,1,1", widths="8,8,8,8", width=32, heads=4, ffn=32, queries=3, classes=80)
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "official.safetensors"
            model.export(path, "official", coco_ids=True)
            self.assertEqual(dd.load(path)["class_embed.5.weight"].shape, (91, 32))
            with self.assertRaisesRegex(ValueError, "official, mmdet2"):
                model.export(path, "nobody")

    def test_unused_dlpack_capsule_ends_its_export(self):
        tensor = dd.load(DATA)["gt.boxes"]
        before = sys.getrefcount(tensor._owner)
        capsule = tensor.__dlpack__(max_version=(1, 0))
        self.assertEqual((len(_tensor._exported), sys.getrefcount(tensor._owner)), (1, before + 1))
        view, kept = _tensor.view(type("Producer", (), {"__dlpack__": lambda self, max_version=None: capsule})())
        self.assertEqual((view.data, view.flags), (tensor._view.data, _api.DD_TENSOR_READONLY))
        del capsule, kept
        gc.collect()
        self.assertEqual((len(_tensor._exported), sys.getrefcount(tensor._owner)), (0, before))


class Assign(unittest.TestCase):
    def test_optimal(self):
        generator = seeded(1)
        for _ in range(150):
            rows, cols = generator.randint(1, 6), generator.randint(1, 6)
            cost = random_matrix(generator, rows, cols)
            for sign, maximize in ((1, False), (-1, True)):
                row, col = dd.assign(cost, maximize=maximize)
                self.assertEqual(len(row), min(rows, cols))
                self.assertEqual((list(row), len(set(col))), (sorted(set(row)), len(row)))
                best = brute_force([[sign * each for each in line] for line in cost])
                self.assertAlmostEqual(sum(cost[i][j] for i, j in zip(row, col)), sign * best, places=12)

    def test_buffers(self):
        for code in "fdiq":
            memory = array.array(code, [4, 1, 3, 2, 0, 5, 3, 2, 2])
            square = memoryview(memory).cast("B").cast(code, [3, 3])
            self.assertEqual(dd.assign(square), ([0, 1, 2], [1, 0, 2]))
            self.assertEqual(dd.assign(square, maximize=True), ([0, 1, 2], [0, 2, 1]))

    def test_tall_and_empty(self):
        self.assertEqual(dd.assign([[5], [1], [3]]), ([1], [0]))
        self.assertEqual(dd.assign(dd.Tensor.zeros((0, 4), "f64")), ([], []))
        self.assertEqual(dd.assign(dd.Tensor.zeros((4, 0), "f64")), ([], []))

    def test_refusals(self):
        with self.assertRaises(ValueError):
            dd.assign([1, 2, 3])
        with self.assertRaises(errors.NonFiniteError) as caught:
            dd.assign([[1, 2], [3, float("nan")]])
        self.assertEqual((caught.exception.image, caught.exception.query), (1, 1))


class Step(unittest.TestCase):
    def test_total_is_the_golden_one(self):
        kd = bound_distiller()
        golden = float(dd.metadata(DATA, "total"))
        self.assertAlmostEqual(kd.step() / golden, 1, delta=1e-6)
        terms = kd.terms
        parts = [terms[f"loss.{module}"] for module in ("det", "logits", "features", "prior")]
        self.assertAlmostEqual(terms["loss.total"], sum(parts), places=9)

    def test_dicts_equal_names(self):
        kd = bound_distiller()
        grad = dd.Tensor.zeros(dd.load(DATA)["student.logits"].shape)
        kd.bind("student.logits.grad", grad)
        total = kd.step()
        loss = dd.Distiller()(**case_inputs(dd))
        self.assertEqual(loss.total, total)
        self.assertEqual(loss.grads["student.logits"].tolist(), grad.tolist())
        self.assertEqual(dict(loss), kd.terms)

    def test_aux_outputs_are_earlier_stages(self):
        inputs = case_inputs(dd)
        expected = dd.Distiller()(**inputs).total
        logits, boxes = inputs["student"].pop("logits").tolist(), inputs["student"].pop("boxes").tolist()
        stages = [{"pred_logits": each, "pred_boxes": box} for each, box in zip(logits, boxes)]
        inputs["student"].update(stages[-1], aux_outputs=stages[:-1])
        self.assertAlmostEqual(dd.Distiller()(**inputs).total / expected, 1, delta=1e-6)
        inputs["student"]["aux_outputs"] = stages[:-1][::-1]
        self.assertGreater(abs(dd.Distiller()(**inputs).total / expected - 1), 1e-4)

    def test_sizes_come_from_targets(self):
        inputs = case_inputs(dd)
        expected = dd.Distiller()(**inputs).total
        for target, (width, height) in zip(inputs["targets"], inputs.pop("image_sizes")):
            target["size"] = [height, width]
        self.assertEqual(dd.Distiller()(**inputs).total, expected)

    def test_nothing_stays_bound(self):
        kd = dd.Distiller()
        kd.bind("gt.crowd", bytes(10))
        kd(**case_inputs(dd))
        self.assertEqual(list(kd._bound), ["gt.crowd"])

    def test_weights(self):
        kd = bound_distiller(weight={"logits": 3})
        total, terms = kd.step(), kd.terms
        kd.set_weight("logits", 0)
        self.assertAlmostEqual(total - kd.step(), 3 * terms["loss.logits"], places=9)

    def test_results_survive_the_next_step(self):
        kd = bound_distiller()
        kd.step()
        match, borrowed = kd.result("match.det"), kd.result("match.det", copy=False)
        before = match.tolist()
        self.assertEqual(borrowed.tolist(), before)
        self.assertTrue(borrowed.readonly)
        kd.step()
        kd.close()
        self.assertEqual(match.tolist(), before)

    def test_match(self):
        inputs = case_inputs(dd)
        outputs = {f"pred_{name}": inputs["student"][name].tolist()[-1] for name in ("logits", "boxes")}
        found = dd.match(outputs, inputs["targets"], image_sizes=inputs["image_sizes"], family="deformable-detr")
        kd = bound_distiller()
        kd.step()
        last = kd.result("match.det").tolist()[-1]
        for (queries, objects), row in zip(found, last):
            self.assertEqual([(i, j) for i, j in enumerate(row) if j >= 0], list(zip(queries, objects)))
        empty = dd.match(outputs, [{"labels": [], "boxes": []}] * 2)
        self.assertEqual(empty, [([], []), ([], [])])

    def test_matcher_with_teacher(self):
        inputs = case_inputs(dd)
        kd = bound_distiller()
        kd.step()
        with dd.Matcher(with_="teacher", family="deformable-detr") as matcher:
            for who in ("student", "teacher"):
                for name in ("logits", "boxes"):
                    matcher.bind(f"{who}.{name}", inputs[who][name])
            matcher.bind("image.sizes", inputs["image_sizes"])
            matcher.run()
            self.assertEqual(matcher.count(), (3, 2))
            expected, costs = kd.result("match.logits").tolist(), kd.result("cost.logits").tolist()
            for stage in range(3):
                for image in range(2):
                    match, cost = matcher.get(stage, image)
                    self.assertEqual(list(match), expected[stage][image])
                    self.assertAlmostEqual(cost / costs[stage][image], 1, delta=1e-5)
            with self.assertRaises(errors.NotFoundError):
                matcher.get(3, 0)

    def test_parameters_of_an_adaptor(self):
        inputs = case_inputs(dd)
        narrow = [dd.Tensor.zeros((f.shape[0], 5, *f.shape[2:])) for f in inputs["student"]["features"]]
        inputs["student"]["features"] = narrow
        kd = dd.Distiller()
        self.assertEqual(kd.named_parameters(), {})
        kd(**inputs)
        found = kd.named_parameters()
        self.assertEqual(list(found), ["adaptor.0.weight", "adaptor.0.bias", "adaptor.1.weight", "adaptor.1.bias"])
        value, gradient = found["adaptor.0.bias"]
        self.assertEqual(value.shape, gradient.shape)
        self.assertGreater(max(map(abs, gradient.tolist())), 0)
        del kd, found
        gc.collect()
        self.assertEqual(len(value.tolist()), value.shape[0])  # the view keeps the C distiller alive


class Callbacks(unittest.TestCase):
    def test_trace(self):
        kd, seen = bound_distiller(), []
        kd.set_trace(seen.append)
        kd.step()
        match = kd.result("match.logits").tolist()
        self.assertEqual(len(seen), sum(j >= 0 for stage in match for image in stage for j in image))
        for pair in seen:
            self.assertEqual(match[pair["student_stage"]][pair["image"]][pair["student_query"]], pair["teacher_query"])
        count = len(seen)
        kd.set_trace(None)
        kd.step()
        self.assertEqual(len(seen), count)

    def test_trace_can_end(self):
        kd, seen = bound_distiller(), []

        def first_only(pair):
            seen.append(pair)
            return False

        kd.set_trace(first_only)
        kd.step()
        self.assertEqual(len(seen), 1)

    def test_exceptions_come_out_of_the_call(self):
        kd = bound_distiller()

        class Mine(Exception):
            pass

        def fail(*_):
            raise Mine("from inside")

        kd.set_trace(fail)
        with self.assertRaisesRegex(Mine, "from inside"):
            kd.step()
        kd.set_trace(None)
        good = kd.step()
        kd.set_mean(fail)
        with self.assertRaisesRegex(Mine, "from inside"):
            kd.step()
        kd.set_mean(lambda values: values[:-1])
        with self.assertRaisesRegex(ValueError, "returned"):
            kd.step()
        kd.set_mean(None)
        self.assertEqual(kd.step(), good)

    def test_keyboard_interrupt_is_kept_too(self):
        kd = bound_distiller()

        def interrupt(_):
            raise KeyboardInterrupt

        kd.set_trace(interrupt)
        with self.assertRaises(KeyboardInterrupt):
            kd.step()

    def test_mean_sets_the_normalisers(self):
        kd, asked = bound_distiller(), []

        def halved(values):
            asked.append(values)
            return [value / 2 for value in values]

        alone = (kd.step(), kd.terms)[1]
        kd.set_mean(halved)
        kd.step()
        self.assertEqual(len(asked), 1)
        self.assertAlmostEqual(kd.terms["loss.det"] / alone["loss.det"], 2, places=6)

    def test_log_exception(self):
        context = dd.Context(device="ref")

        def fail(level, line):
            raise RuntimeError(f"{level} {line}")

        context.set_log(fail, dd.LOG_DEBUG)
        # Entered as the library does it: the function pointer that it was given.
        context._handle.callbacks["log"](None, dd.LOG_INFO, "zeile".encode())
        with self.assertRaisesRegex(RuntimeError, "2 zeile"):
            context.describe()
        context.set_log(None)
        context.describe()

    def test_log_names_what_was_replaced(self):
        context, lines = dd.Context(device="ref"), []
        context.set_log(lambda level, line: lines.append((level, line)), dd.LOG_WARNING)
        matcher = dd.Matcher(context, nonfinite="clamp", family="dino")
        for name, value in {"student.logits": [[[float("nan"), 1.0]]], "student.boxes": [[[0.5, 0.5, 0.2, 0.2]]],
                            "gt.boxes": [[0.5, 0.5, 0.2, 0.2]]}.items():
            matcher.bind(name, float_tensor(value))
        matcher.bind("gt.labels", int_tensor([1]))
        matcher.bind("gt.offsets", int_tensor([0, 1]))
        matcher.run()
        self.assertEqual(len(lines), 1)
        self.assertEqual(lines[0][0], dd.LOG_WARNING)
        self.assertIn("student.logits", lines[0][1])


def shape_of(value):
    return (len(value), *shape_of(value[0])) if isinstance(value, list) else ()


def flat(value):
    return [x for part in value for x in flat(part)] if isinstance(value, list) else [value]


def float_tensor(value):
    return memoryview(array.array("f", flat(value))).cast("B").cast("f", shape_of(value))


def int_tensor(value):
    return memoryview(array.array("i", value))


class Lifetimes(unittest.TestCase):
    def test_any_order(self):
        """Context, distiller, matcher, callbacks, bound tensors, views: dropped in every order, used in between."""
        inputs = case_inputs(dd)

        def make():
            context = dd.Context(device="ref", threads=1)
            context.set_log(lambda level, line: None, dd.LOG_DEBUG)
            kd = dd.Distiller(context)
            kd.set_trace(lambda pair: True)
            kd.bind("student.logits", inputs["student"]["logits"].copy())
            matcher = dd.Matcher(context, with_="objects")
            view = dd.load(DATA)["gt.boxes"]
            return {"context": context, "distiller": kd, "matcher": matcher, "view": view}

        for order in itertools.permutations(["context", "distiller", "matcher", "view"]):
            objects = make()
            for name in order:
                del objects[name]
                gc.collect()
                if "distiller" in objects:
                    self.assertEqual(objects["distiller"].get_weight("det"), 1)
                if "matcher" in objects:
                    with self.assertRaises(errors.StateError):
                        objects["matcher"].run()
                if "view" in objects:
                    self.assertEqual(len(objects["view"].tolist()), 10)

    def test_context_outlives_its_closing_while_in_use(self):
        context = dd.Context(device="ref")
        kd = dd.Distiller(context)
        context.close()
        gc.collect()
        for name, tensor in dd.load(DATA).items():
            kd.bind(name, tensor)
        self.assertGreater(kd.step(), 0)

    def test_a_callback_that_knows_its_distiller_is_no_leak(self):
        kd = bound_distiller()
        kd.set_trace(lambda pair: kd is not None)
        kd.step()
        handle = weakref.ref(kd._handle)
        del kd
        gc.collect()
        self.assertIsNone(handle())

    def test_exit_with_live_handles(self):
        code = ("import sys; sys.path[:0] = sys.argv[1:3]\n"
                "import detrdistill as dd, support\n"
                "kd = dd.Distiller(); loss = kd(**support.case_inputs(dd)); kd.set_trace(print)\n"
                "view = kd.result('match.det', copy=False); capsule = view.__dlpack__(max_version=(1, 0))\n"
                "print(loss.total > 0)\n")
        done = subprocess.run([sys.executable, "-c", code, str(ROOT / "bindings" / "python"), str(ROOT / "tests" / "bindings")],
                              capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "True\n", ""))

    def test_threads(self):
        """Eight threads with a distiller each on one context, while others collect garbage."""
        context = dd.Context(device="cpu", threads=1) if dd.has("cpu") else dd.Context(device="ref", threads=1)
        failures = []
        reference = dd.Distiller(context)(**case_inputs(dd)).total

        def work():
            try:
                for _ in range(10):
                    total = dd.Distiller(context)(**case_inputs(dd)).total
                    if total != reference:
                        failures.append(total)
                    gc.collect()
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])

    def test_cancel_from_another_thread(self):
        context = dd.Context(device="ref")
        kd = dd.Distiller(context)
        threading.Thread(target=context.cancel).start()
        deadline = time.monotonic() + 10
        with self.assertRaises(errors.CancelledError):
            while time.monotonic() < deadline:
                kd(**case_inputs(dd))
        context.cancel(False)
        self.assertGreater(kd(**case_inputs(dd)).total, 0)

    def test_fork(self):
        kd = bound_distiller(device="ref")
        kd.step()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                kd.step()
            except errors.ForkedError:
                code = 0 if dd.Distiller(device="ref")(**case_inputs(dd)).total > 0 else 2
            finally:
                os._exit(code)
        self.assertEqual(os.waitpid(child, 0)[1], 0)

    def test_hundred_thousand_calls_do_not_grow(self):
        cost = memoryview(array.array("f", [4, 1, 3, 2, 0, 5, 3, 2, 2])).cast("B").cast("f", [3, 3])
        kd = dd.Distiller(device="ref")
        context = dd.Context(device="ref")
        tensor = dd.Tensor.zeros((1, 1, 4, 3))

        def round_of_calls(count):
            for i in range(count):
                dd.assign(cost)
                kd.bind("student.logits", tensor)
                kd.get_weight("det")
                if i % 4 == 0:
                    dd.Distiller(context).close()
                try:
                    kd.bind("nothing", tensor)
                except errors.NotFoundError:
                    pass

        round_of_calls(5000)
        gc.collect()
        before, held = resident_kib(), context.memory()["host_bytes"]
        round_of_calls(25000)  # four calls and more a round
        gc.collect()
        self.assertLess(resident_kib() - before, 1024)
        self.assertEqual(context.memory()["host_bytes"], held)

    def test_steps_do_not_grow(self):
        kd, inputs = dd.Distiller(device="ref"), case_inputs(dd)
        for _ in range(20):
            kd(**inputs)
        gc.collect()
        before = resident_kib()
        for _ in range(200):
            kd(**inputs)
        gc.collect()
        self.assertLess(resident_kib() - before, 1024)


class Evaluation(unittest.TestCase):
    def test_perfect_detections(self):
        evaluation = dd.CocoEval()
        for image in range(3):
            boxes, labels = [[10, 10, 50 + image, 40], [100, 20, 30, 30]], [1, 2]
            evaluation.add_objects(image, boxes, labels)
            evaluation.add_detections(image, boxes, labels, [0.9, 0.8])
        numbers = evaluation.finish()
        self.assertAlmostEqual(numbers["AP"], 1)
        self.assertEqual(numbers["AP_L"], -1)
        self.assertAlmostEqual(evaluation.class_ap(2), 1)
        with self.assertRaises(ValueError):
            evaluation.add_detections(0, [[1, 2, 3]], [1], [0.5])


class NothingHeavy(unittest.TestCase):
    def test_numpy_and_torch_were_never_imported(self):
        self.assertEqual({"numpy", "torch"} & set(sys.modules), set())


if __name__ == "__main__":
    unittest.main()
