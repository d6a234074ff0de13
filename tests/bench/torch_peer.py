# SPDX-License-Identifier: Apache-2.0
"""The peer of the benchmarks: matcher and DETRDistill losses with torch and scipy, the way a user of those writes them.

Formulas: shared/spec/distillation.md A, B, C, D.2 (Deformable DETR, default profile). Written from the formulas, vectorised where torch
has an operator for it; nothing is slowed down on purpose.
"""

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment


def xyxy(box):
    c, s = box[..., :2], box[..., 2:]
    return torch.cat([c - s / 2, c + s / 2], -1)


def area(box):
    return (box[..., 2] - box[..., 0]).clamp(min=0) * (box[..., 3] - box[..., 1]).clamp(min=0)


def giou_pairs(a, b, pairwise):
    if pairwise:
        a, b = a[:, None], b[None]
    inter = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    union = (area(a) + area(b) - inter).clamp(min=1e-6)
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1).clamp(min=1e-6)
    return inter / union - (hull - union) / hull


@torch.no_grad()
def match_objects(logits, boxes, targets, sizes):
    """One stage, as DETR's HungarianMatcher: one cost matrix for the whole batch, then a block for each image."""
    images, queries = logits.shape[:2]
    p = logits.flatten(0, 1).sigmoid()
    box = boxes.flatten(0, 1)
    labels = torch.cat([t["labels"] for t in targets])
    gt = torch.cat([t["boxes"] for t in targets])
    counts = [len(t["labels"]) for t in targets]
    positive = 0.25 * (1 - p) ** 2 * -(p + 1e-12).log()
    negative = 0.75 * p**2 * -(1 - p + 1e-12).log()
    scale = sizes.repeat(1, 2)
    pixels = (xyxy(boxes) * scale[:, None]).flatten(0, 1)
    gt_pixels = torch.cat([xyxy(t["boxes"]) * s for t, s in zip(targets, scale)])
    cost = 2 * (positive - negative)[:, labels] + 5 * torch.cdist(box, gt, p=1) - 2 * giou_pairs(pixels, gt_pixels, True)
    cost = cost.view(images, queries, -1).split(counts, -1)
    return [tuple(map(torch.as_tensor, linear_sum_assignment(c[i].numpy()))) for i, c in enumerate(cost)]


@torch.no_grad()
def teacher_targets(logits, boxes, sizes):
    """Clipped boxes in pixels and normalised, class probabilities (A.2)."""
    scale = sizes.repeat(1, 2)[None, :, None]
    pixels = (xyxy(boxes) * scale).clamp(min=0).minimum(scale)
    unit = pixels / scale
    c, s = (unit[..., :2] + unit[..., 2:]) / 2, unit[..., 2:] - unit[..., :2]
    return logits.sigmoid(), pixels, torch.cat([c, s], -1)


@torch.no_grad()
def match_teacher(logits, boxes, prob, pixels, unit, sizes):
    """One stage (A.3): soft BCE summed over classes as two matrix products."""
    result = []
    for b in range(len(logits)):
        x = logits[b]
        cls = F.softplus(-x) @ prob[b].T + F.softplus(x) @ (1 - prob[b]).T
        mine = xyxy(boxes[b]) * sizes[b].repeat(2)
        cost = cls + 5 * torch.cdist(boxes[b], unit[b], p=1) - 2 * giou_pairs(mine, pixels[b], True)
        i, j = linear_sum_assignment(cost.numpy())
        result.append((torch.as_tensor(i), torch.as_tensor(j)))
    return result


def focal_sum(logits, target):
    p = logits.sigmoid()
    ce = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    pt = p * target + (1 - p) * (1 - target)
    return ((0.25 * target + 0.75 * (1 - target)) * (1 - pt) ** 2 * ce).sum()


def object_loss(logits, boxes, matches, targets, sizes):
    """Focal, L1, GIoU of one stage (D.2)."""
    target = torch.zeros_like(logits)
    mine, gt, scale, count = [], [], [], 0
    for b, (i, j) in enumerate(matches):
        target[b, i, targets[b]["labels"][j]] = 1
        mine.append(boxes[b, i])
        gt.append(targets[b]["boxes"][j])
        scale.append(sizes[b].repeat(2).expand(len(i), 4))
        count += len(i)
    mine, gt, scale = torch.cat(mine), torch.cat(gt), torch.cat(scale)
    n = max(count, 1)
    giou = giou_pairs(xyxy(mine) * scale, xyxy(gt) * scale, False)
    return (2 * focal_sum(logits, target) + 5 * (mine - gt).abs().sum() + 2 * (1 - giou).sum()) / n


def logits_loss(logits, boxes, matches, prob, pixels, unit, sizes):
    """A.4 of one stage."""
    total, pairs = 0, sum(len(i) for i, _ in matches)
    for b, (i, j) in enumerate(matches):
        mine = boxes[b, i]
        giou = giou_pairs(xyxy(mine) * sizes[b].repeat(2), pixels[b, j], False)
        total = total + F.binary_cross_entropy_with_logits(logits[b, i], prob[b, j], reduction="sum")
        total = total + 5 * (mine - unit[b, j]).abs().sum() + 2 * (1 - giou).sum()
    return total / pairs


@torch.no_grad()
def quality(logits, boxes, targets, sizes, k):
    """B.2 of one stage: top-k entries, class score times best IoU."""
    images, queries, classes = logits.shape
    score, index = logits.sigmoid().flatten(1).topk(k)
    query = index // classes
    q = score.clone()
    for b in range(images):
        if len(targets[b]["boxes"]):
            scale = sizes[b].repeat(2)
            box, gt = xyxy(boxes[b, query[b]]) * scale, xyxy(targets[b]["boxes"]) * scale
            inter = (torch.minimum(box[:, None, 2:], gt[None, :, 2:]) - torch.maximum(box[:, None, :2], gt[None, :, :2])).clamp(min=0).prod(-1)
            q[b] *= (inter / (area(box)[:, None] + area(gt)[None] - inter).clamp(min=1e-6)).max(1).values
    return query, q


def feature_loss(hidden, logits, boxes, teacher, student, targets, sizes, k=100):
    """B.3: sum over teacher stages and levels."""
    total = 0
    normal = [F.normalize(f.flatten(2), dim=1) for f in teacher]
    for stage in range(len(logits)):
        with torch.no_grad():
            query, q = quality(logits[stage], boxes[stage], targets, sizes, k)
            rows = F.normalize(hidden[stage].gather(1, query[..., None].expand(-1, -1, hidden.shape[-1])), dim=-1)
        for f_t, f_s, unit in zip(teacher, student, normal):
            with torch.no_grad():
                s = (q[:, None] @ (rows @ unit)).clamp(min=0.01)
                psi = (s / s.amax(-1, keepdim=True)).view(len(f_t), 1, *f_t.shape[2:])
            total = total + ((psi * (f_t - f_s)) ** 2).mean()
    return total


def whole_loss(case):
    """Base loss, logits, features and prior group of all stages; gradients by autograd."""
    s_logits, s_boxes, t_logits, t_boxes, sizes, targets = (case[k] for k in ("s_logits", "s_boxes", "t_logits", "t_boxes", "sizes", "targets"))
    prob, pixels, unit = teacher_targets(t_logits, t_boxes, sizes)
    total = 0
    for k in range(len(s_logits)):
        own = match_objects(s_logits[k].detach(), s_boxes[k].detach(), targets, sizes)
        taught = match_teacher(s_logits[k].detach(), s_boxes[k].detach(), prob[k], pixels[k], unit[k], sizes)
        teacher = match_objects(t_logits[k], t_boxes[k], targets, sizes)
        total = total + object_loss(s_logits[k], s_boxes[k], own, targets, sizes)
        total = total + logits_loss(s_logits[k], s_boxes[k], taught, prob[k], pixels[k], unit[k], sizes)
        total = total + object_loss(case["p_logits"][k], case["p_boxes"][k], teacher, targets, sizes)
    return total + feature_loss(case["t_hidden"], t_logits, t_boxes, case["t_feat"], case["s_feat"], targets, sizes)
