# SPDX-License-Identifier: Apache-2.0
"""The Python bindings with NumPy, scipy and torch: zero-copy exchange, drop-in functions, autograd."""
import gc
import sys
import tempfile
import unittest
import weakref

from support import DATA, case_inputs, missing, resident_kib

import detrdistill as dd
from detrdistill import _api, _tensor, errors

ABSENT = missing("numpy", "scipy", "torch")
if ABSENT is None:
    import numpy as np
    import torch
    import torch_losses
    from scipy.optimize import linear_sum_assignment

MODULES = ("det", "logits", "features", "prior")


def random_case(seed, student_stages=2, teacher_stages=2, batch=2, students=13, teachers=17, classes=6, width=8, dtype=None):
    """(student, teacher, prior, targets, sizes); what a student makes requires gradients."""
    generator = torch.Generator().manual_seed(seed)
    dtype = dtype or torch.float32

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    def boxes(*shape):
        centre = torch.rand((*shape, 2), generator=generator, dtype=torch.float64)
        size = torch.rand((*shape, 2), generator=generator, dtype=torch.float64) * 0.5 + 0.05
        return torch.cat([centre, size], -1).to(dtype)

    levels = [(5, 7), (3, 4)]
    student = {"logits": normal(student_stages, batch, students, classes), "boxes": boxes(student_stages, batch, students),
               "features": [normal(batch, width, h, w) for h, w in levels]}
    teacher = {"logits": normal(teacher_stages, batch, teachers, classes), "boxes": boxes(teacher_stages, batch, teachers),
               "queries": normal(teacher_stages, batch, teachers, width),
               "features": [normal(batch, width, h, w) for h, w in levels]}
    prior = {"logits": normal(student_stages, batch, teachers, classes), "boxes": boxes(student_stages, batch, teachers)}
    counts = torch.randint(0, 6, (batch,), generator=generator).tolist()
    targets = [{"labels": torch.randint(0, classes, (n,), generator=generator), "boxes": boxes(n)} for n in counts]
    for leaf in leaves(student, prior):
        leaf.requires_grad_()
    return student, teacher, prior, targets, torch.tensor([[640.0, 480.0], [333.0, 500.0]], dtype=dtype)[:batch]


def leaves(student, prior):
    return [student["logits"], student["boxes"], prior["logits"], prior["boxes"], *student["features"]]


def to_numpy(value):
    if isinstance(value, dict):
        return {key: to_numpy(each) for key, each in value.items()}
    if isinstance(value, list):
        return [to_numpy(each) for each in value]
    return value.detach().numpy()


@unittest.skipIf(ABSENT, ABSENT)
class Views(unittest.TestCase):
    def test_torch_in_place(self):
        for dtype, code in ((torch.float32, _api.DD_F32), (torch.float64, _api.DD_F64), (torch.float16, _api.DD_F16),
                            (torch.bfloat16, _api.DD_BF16), (torch.int32, _api.DD_I32), (torch.int64, _api.DD_I64),
                            (torch.uint8, _api.DD_U8), (torch.bool, _api.DD_U8)):
            tensor = torch.zeros(4, 6, dtype=dtype)[1:, ::2].T
            view, _ = _tensor.view(tensor)
            self.assertEqual((view.dtype, view.data, list(view.shape[:2]), list(view.stride[:2])),
                             (code, tensor.data_ptr(), [3, 3], [2, 6]))

    def test_numpy_in_place(self):
        for dtype, code in (("f4", _api.DD_F32), ("f8", _api.DD_F64), ("f2", _api.DD_F16), ("i4", _api.DD_I32),
                            ("i8", _api.DD_I64), ("u1", _api.DD_U8), ("?", _api.DD_U8)):
            array = np.zeros((4, 6), dtype)[::-1, 1::2]
            array.setflags(write=False)
            view, _ = _tensor.view(array)
            self.assertEqual((view.dtype, view.data, list(view.stride[:2]), view.flags),
                             (code, array.ctypes.data, [-6, 2], _api.DD_TENSOR_READONLY))

    def test_both_dlpack_generations(self):
        source = torch.zeros(3, 4, dtype=torch.bfloat16)

        class New:
            def __dlpack__(self, *, max_version=None, **_):
                return source.__dlpack__(max_version=max_version)

        class Old:
            def __dlpack__(self, *, stream=None):
                return source.__dlpack__()

        for producer in (New(), Old()):
            view, kept = _tensor.view(producer)
            self.assertEqual((view.dtype, view.data, list(view.shape[:2])), (_api.DD_BF16, source.data_ptr(), [3, 4]))
            del view, kept
            gc.collect()
        self.assertEqual(source.sum().item(), 0)

    def test_requires_grad_is_detached(self):
        tensor = torch.zeros(3, requires_grad=True)
        self.assertEqual(_tensor.view(tensor)[0].data, tensor.data_ptr())

    def test_refusals(self):
        for bad in (torch.zeros(3, dtype=torch.int16), torch.zeros(3, dtype=torch.complex64), torch.eye(3).to_sparse(),
                    torch.zeros(3, device="meta"), np.zeros(3, ">f4"), np.zeros(3, "c16"), np.zeros(3, "U4")):
            with self.assertRaises(TypeError):
                _tensor.view(bad)
        with self.assertRaises(ValueError):
            _tensor.view(np.zeros(3, [("a", "f4"), ("b", "u1")])["a"])

    def test_out_without_copying(self):
        tensor = dd.load(DATA)["student.logits"]
        address = tensor._view.data
        for taken in (np.asarray(tensor), tensor.numpy(), np.from_dlpack(tensor)):
            self.assertEqual((taken.ctypes.data, taken.shape, taken.flags.writeable), (address, tensor.shape, False))
        for taken in (tensor.torch(), torch.from_dlpack(tensor)):
            self.assertEqual((taken.data_ptr(), tuple(taken.shape)), (address, tensor.shape))

    def test_taken_memory_holds_its_owner(self):
        takers = (lambda t: t.numpy(), lambda t: t.torch(), np.asarray, np.from_dlpack, torch.from_dlpack)
        expected = dd.load(DATA)["teacher.logits"].tolist()
        for take in takers:
            tensor = dd.load(DATA)["teacher.logits"]
            owner = weakref.ref(tensor._owner)
            taken = take(tensor)
            del tensor
            gc.collect()
            self.assertIsNotNone(owner())
            self.assertEqual(taken.tolist(), expected)
            del taken
            gc.collect()
            self.assertIsNone(owner())
        self.assertEqual(_tensor._exported, {})

    def test_bf16_file(self):
        values = torch.randn(4, 5).bfloat16()
        with tempfile.TemporaryDirectory() as folder:
            dd.save(folder + "/x", {"strided": values.T, "plain": values})
            loaded = dd.load(folder + "/x")
            self.assertEqual(loaded["plain"].dtype, "bf16")
            self.assertTrue(torch.equal(loaded["plain"].torch(), values))
            self.assertTrue(torch.equal(torch.from_dlpack(loaded["strided"]), values.T))
            with self.assertRaises(AttributeError):
                loaded["plain"].__array_interface__


@unittest.skipIf(ABSENT, ABSENT)
class Assign(unittest.TestCase):
    def test_equals_scipy(self):
        generator = np.random.default_rng(0)
        for trial in range(300):
            rows, cols = generator.integers(0, 40, 2)
            cost = generator.normal(size=(2 * rows, 3 * cols)).astype(("f4", "f8")[trial % 2])[::2, ::-3]
            if trial % 3 == 0:
                cost = cost.T
            for maximize in (False, True):
                for ours, scipys in zip(dd.assign(cost, maximize=maximize), linear_sum_assignment(cost, maximize=maximize)):
                    self.assertEqual(ours.dtype, scipys.dtype)
                    np.testing.assert_array_equal(ours, scipys)

    def test_ties_give_the_same_total(self):
        generator = np.random.default_rng(1)
        for _ in range(50):
            cost = generator.integers(0, 5, generator.integers(1, 30, 2))
            self.assertEqual(cost[dd.assign(cost)].sum(), cost[linear_sum_assignment(cost)].sum())

    def test_torch_and_odd_types(self):
        cost = torch.rand(7, 9, generator=torch.Generator().manual_seed(3))
        for given in (cost, cost.double(), cost.bfloat16(), cost.half(), (cost * 1e6).long(), cost.T,
                      cost.clone().requires_grad_()):
            plain = given.detach().double().numpy()
            for ours, scipys in zip(dd.assign(given), linear_sum_assignment(plain)):
                np.testing.assert_array_equal(ours, scipys)
        for given in (cost.numpy().astype(">f8"), cost.numpy().astype("f2"), cost.numpy() > 0.5, cost.tolist()):
            chosen = np.asarray(given, "f8")
            self.assertAlmostEqual(chosen[dd.assign(given)].sum(), chosen[linear_sum_assignment(chosen)].sum())

    def test_torch_maximize(self):
        cost = torch.rand(6, 8, generator=torch.Generator().manual_seed(4))
        for ours, scipys in zip(dd.assign(cost, maximize=True), linear_sum_assignment(cost.numpy(), maximize=True)):
            np.testing.assert_array_equal(ours, scipys)

    def test_refused_as_scipy_refuses(self):
        for bad in ([1, 2, 3], [], np.zeros((2, 2, 2)), [[float("nan")]]):
            for function in (dd.assign, linear_sum_assignment):
                with self.assertRaises(ValueError):
                    function(bad)
        with self.assertRaises(TypeError):
            dd.assign(np.zeros((2, 2), complex))


@unittest.skipIf(ABSENT, ABSENT)
class Match(unittest.TestCase):
    def test_equals_the_plain_matcher(self):
        for seed in range(20):
            student, _, _, targets, _ = random_case(seed, batch=2, students=40, classes=20)
            outputs = {"pred_logits": student["logits"][-1], "pred_boxes": student["boxes"][-1], "aux_outputs": []}
            ours = dd.match(outputs, targets)
            for (i, j), (queries, objects) in zip(ours, torch_losses.hungarian_matcher(outputs, targets)):
                self.assertEqual((i.dtype, j.dtype), (torch.int64, torch.int64))
                self.assertEqual((i.tolist(), j.tolist()), (queries.tolist(), objects.tolist()))
            numpys = dd.match(to_numpy({key: outputs[key] for key in ("pred_logits", "pred_boxes")}), to_numpy(targets))
            self.assertEqual([(i.tolist(), j.tolist()) for i, j in numpys], [(i.tolist(), j.tolist()) for i, j in ours])
            self.assertEqual(numpys[0][0].dtype, np.int64)

    def test_weights_change_the_choice(self):
        student, _, _, _, _ = random_case(1, students=40)
        targets = [{"labels": torch.tensor([0, 1]), "boxes": torch.tensor([[.5, .5, .2, .2], [.3, .3, .1, .1]])}] * 2
        outputs = {"pred_logits": student["logits"][-1], "pred_boxes": student["boxes"][-1]}
        boxes_only = dd.match(outputs, targets, class_=0, giou=0)
        distance = torch.cdist(outputs["pred_boxes"].detach(), torch.stack([t["boxes"] for t in targets]), p=1)
        for (i, j), cost in zip(boxes_only, distance):
            rows, cols = linear_sum_assignment(cost.numpy())
            self.assertEqual((i.tolist(), j.tolist()), (rows.tolist(), cols.tolist()))


@unittest.skipIf(ABSENT, ABSENT)
class Autograd(unittest.TestCase):
    def compare(self, seed, weights=None, **shape):
        student, teacher, prior, targets, sizes = random_case(seed, **shape)
        weights = weights or {}
        loss = dd.Distiller(weight=weights)(student=student, teacher=teacher, targets=targets, image_sizes=sizes, prior=prior)
        loss.total.backward()
        ours = [leaf.grad.clone() for leaf in leaves(student, prior)]
        for leaf in leaves(student, prior):
            leaf.grad = None
        expected = torch_losses.distillation(student, teacher, prior, targets, sizes)
        sum(weights.get(module, 1) * expected[module] for module in MODULES).backward()
        for module in MODULES:
            ratio = loss[f"loss.{module}"] / expected[module].item()
            self.assertAlmostEqual(ratio, 1, delta=1e-4, msg=f"{module}, seed {seed}")
        for leaf, gradient in zip(leaves(student, prior), ours):
            scale = leaf.grad.abs().max().item()
            self.assertLess((leaf.grad - gradient).abs().max().item(), 1e-4 * scale, msg=f"seed {seed}")

    def test_equals_torch(self):
        for seed in range(12):
            self.compare(seed)

    def test_equals_torch_on_other_shapes(self):
        self.compare(100, student_stages=2, teacher_stages=4)
        self.compare(101, students=20, teachers=11)
        self.compare(102, batch=1, classes=1)
        self.compare(103, dtype=torch.float64)

    def test_outer_weights_scale_gradients(self):
        self.compare(7, weights={"logits": 2.5, "features": 0.25, "prior": 3.0, "det": 0.5})

    def test_reaches_the_parameters_of_a_student(self):
        """A linear student trained by loss.total alone gets better; the chain rule is torch's."""
        _, teacher, _, targets, sizes = random_case(5)
        torch.manual_seed(0)
        inputs = torch.randn(2, 13, 8)
        head = torch.nn.Linear(8, 6 + 4)
        optimiser = torch.optim.SGD(head.parameters(), lr=0.05)
        kd = dd.Distiller(prior="none", feature_mask="none")
        losses = []
        for _ in range(30):
            outputs = head(inputs)
            stage = {"pred_logits": outputs[..., :6], "pred_boxes": outputs[..., 6:].sigmoid()}
            loss = kd(student=dict(stage, aux_outputs=[stage]), teacher=teacher, targets=targets, image_sizes=sizes)
            optimiser.zero_grad()
            loss.total.backward()
            self.assertGreater(head.weight.grad.abs().sum().item(), 0)
            optimiser.step()
            losses.append(loss.total.item())
        self.assertLess(losses[-1], 0.9 * losses[0])

    def test_backward_is_linear(self):
        student, teacher, prior, targets, sizes = random_case(3)
        kd = dd.Distiller()
        loss = kd(student=student, teacher=teacher, targets=targets, image_sizes=sizes, prior=prior)
        once, = torch.autograd.grad(loss.total, student["logits"], retain_graph=True)
        thrice, = torch.autograd.grad(3 * loss.total, student["logits"])
        torch.testing.assert_close(thrice, 3 * once)
        self.assertTrue(torch.equal(loss.grads["student.logits"], once))

    def test_two_losses_before_backward(self):
        kd = dd.Distiller()
        cases = [random_case(seed) for seed in (1, 2)]
        losses = [kd(student=s, teacher=t, targets=g, image_sizes=z, prior=p) for s, t, p, g, z in cases]
        (losses[0].total + losses[1].total).backward()
        alone = random_case(1)
        kd(student=alone[0], teacher=alone[1], targets=alone[3], image_sizes=alone[4], prior=alone[2]).total.backward()
        self.assertTrue(torch.equal(cases[0][0]["logits"].grad, alone[0]["logits"].grad))

    def test_no_grad_and_partial_grad(self):
        student, teacher, prior, targets, sizes = random_case(4)
        kd = dd.Distiller()
        with torch.no_grad():
            loss = kd(student=student, teacher=teacher, targets=targets, image_sizes=sizes, prior=prior)
        self.assertFalse(loss.total.requires_grad)
        self.assertEqual(loss.grads, {})
        student["boxes"] = student["boxes"].detach()
        part = kd(student=student, teacher=teacher, targets=targets, image_sizes=sizes, prior=prior)
        self.assertNotIn("student.boxes", part.grads)
        part.total.backward()
        self.assertEqual(part.total.item(), loss.total.item())

    def test_bf16_inputs(self):
        student, teacher, prior, targets, sizes = random_case(6)
        rounded = {"logits": student["logits"].detach().bfloat16().requires_grad_(), "boxes": student["boxes"].detach(),
                   "features": [each.detach() for each in student["features"]]}
        widened = dict(rounded, logits=rounded["logits"].detach().float().requires_grad_())
        kd = dd.Distiller()
        low, high = (kd(student=each, teacher=teacher, targets=targets, image_sizes=sizes, prior=prior)
                     for each in (rounded, widened))
        self.assertEqual(low.total.item(), high.total.item())
        (1024 * low.total).backward()
        (1024 * high.total).backward()
        self.assertTrue(torch.equal(rounded["logits"].grad, widened["logits"].grad.bfloat16()))

    def test_small_gradients_of_fp16_inputs_survive_loss_scaling(self):
        """Below fp16's smallest number before the scale, well inside its range after it."""
        student, teacher, prior, targets, sizes = random_case(6)
        half = student["logits"].detach().half().requires_grad_()
        wide = half.detach().float().requires_grad_()
        kd, gradients = dd.Distiller(weight={"det": 1e-7, "logits": 1e-7}), []
        for logits in (half, wide):
            outputs = {"logits": logits, "boxes": student["boxes"].detach(),
                       "features": [each.detach() for each in student["features"]]}
            (2.0 ** 20 * kd(student=outputs, teacher=teacher, targets=targets, image_sizes=sizes, prior=prior).total).backward()
            gradients.append(logits.grad)
        self.assertEqual(gradients[0].dtype, torch.float16)
        self.assertTrue(torch.equal(gradients[0], gradients[1].half()))
        self.assertGreater(gradients[0].abs().max().item(), 0)

    def test_numpy_gives_the_same(self):
        student, teacher, prior, targets, sizes = random_case(8)
        loss = dd.Distiller()(student=student, teacher=teacher, targets=targets, image_sizes=sizes, prior=prior)
        plain = dd.Distiller()(student=to_numpy(student), teacher=to_numpy(teacher), targets=to_numpy(targets),
                               image_sizes=to_numpy(sizes), prior=to_numpy(prior))
        self.assertEqual(dict(loss), dict(plain))
        self.assertEqual(set(loss.grads), set(plain.grads))
        for name, gradient in loss.grads.items():
            np.testing.assert_array_equal(gradient.numpy(), plain.grads[name])

    def test_adaptor_gradients_of_two_losses_before_backward(self):
        kd, cases = dd.Distiller(det=False, logits=False, prior="none"), []
        for seed in (20, 21):
            student, teacher, _, targets, sizes = random_case(seed)
            student["features"] = [each.detach()[:, :5] for each in student["features"]]
            cases.append({"student": student, "teacher": teacher, "targets": targets, "image_sizes": sizes})
        losses = [kd(**case).total for case in cases]
        weight = kd.parameters()[0]
        together, = torch.autograd.grad(losses[0], weight)
        alone, = torch.autograd.grad(kd(**cases[0]).total, weight)
        self.assertTrue(torch.equal(together, alone))

    def test_adaptor_is_trained_by_a_torch_optimiser(self):
        student, teacher, prior, targets, sizes = random_case(9)
        student["features"] = [each.detach()[:, :5] for each in student["features"]]
        kd = dd.Distiller(det=False, logits=False, prior="none")

        def step():
            return kd(student=student, teacher=teacher, targets=targets, image_sizes=sizes)

        first = step().total.item()
        parameters = kd.parameters()
        self.assertEqual([tuple(each.shape) for each in parameters], [(8, 5), (8,), (8, 5), (8,)])
        optimiser = torch.optim.SGD(parameters, lr=0.1)
        for _ in range(20):
            optimiser.zero_grad()
            loss = step()
            loss.total.backward()
            optimiser.step()
        self.assertLess(loss.total.item(), 0.99 * first)
        # The gradient of a parameter against a difference quotient.
        weight = parameters[0]
        weight.grad = None
        step().total.backward()
        slope, direction = (weight.grad * weight.grad).sum().item(), weight.grad.clone()
        with torch.no_grad():
            weight += 1e-2 * direction
            up = step().total.item()
            weight -= 2e-2 * direction
            down = step().total.item()
        self.assertAlmostEqual((up - down) / 2e-2 / slope, 1, delta=1e-2)

    def test_steps_do_not_grow(self):
        student, teacher, prior, targets, sizes = random_case(10)
        kd = dd.Distiller()

        def step():
            kd(student=student, teacher=teacher, targets=targets, image_sizes=sizes, prior=prior).total.backward()

        for _ in range(50):
            step()
        gc.collect()
        before = resident_kib()
        for _ in range(400):
            step()
        gc.collect()
        self.assertLess(resident_kib() - before, 2048)
        self.assertEqual(kd._bound, {})

    def test_errors_come_through(self):
        student, teacher, prior, targets, sizes = random_case(11)
        with torch.no_grad():
            student["logits"][1, 0, 3, 2] = float("inf")
        with self.assertRaises(errors.NonFiniteError) as caught:
            dd.Distiller()(student=student, teacher=teacher, targets=targets, image_sizes=sizes, prior=prior)
        self.assertEqual((caught.exception.stage, caught.exception.image, caught.exception.query), (1, 0, 3))

    def test_golden_total(self):
        inputs = case_inputs(dd)
        tensors = {key: {k: [f.torch() for f in v] if k == "features" else v.torch() for k, v in inputs[key].items()}
                   for key in ("student", "teacher", "prior")}
        targets = [{key: torch.tensor(value) for key, value in target.items()} for target in inputs["targets"]]
        loss = dd.Distiller()(**tensors, targets=targets, image_sizes=torch.tensor(inputs["image_sizes"]))
        self.assertAlmostEqual(loss.total.item() / float(dd.metadata(DATA, "total")), 1, delta=1e-6)


if __name__ == "__main__":
    if ABSENT:
        print(f"{__file__}: {ABSENT}", file=sys.stderr)
    unittest.main()
