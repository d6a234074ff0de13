# SPDX-License-Identifier: Apache-2.0
"""The default profile of DETRDistill in plain torch, written from the spec alone (distillation A to D): what the bindings'
autograd is compared with. Deformable DETR's conventions."""
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment

GUARD = 1e-6


def to_corners(boxes):
    cx, cy, w, h = boxes.unbind(-1)
    return torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], -1)


def to_centre(boxes):
    x0, y0, x1, y1 = boxes.unbind(-1)
    return torch.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], -1)


def overlap(a, b):
    """(IoU, GIoU) of broadcast corner boxes, guards of primitive 4."""
    side = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0)
    inter = side.prod(-1)
    area = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1)
    union = (area - inter).clamp(min=GUARD)
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).prod(-1).clamp(min=GUARD)
    return inter / union, inter / union - (hull - union) / hull


def pixels(boxes, size):
    return to_corners(boxes) * size.repeat(2)


def lsap(cost):
    rows, cols = linear_sum_assignment(cost.detach().double().numpy())
    return torch.as_tensor(rows), torch.as_tensor(cols)


def focal_cost(logits, labels, eps):
    p = logits.sigmoid()[:, labels]
    return 0.25 * (1 - p) ** 2 * -(p + eps).log() - 0.75 * p ** 2 * -(1 - p + eps).log()


def object_matching(logits, boxes, target, size, eps=1e-12):
    """(queries, objects) of one image and stage: 2 class + 5 L1 - 2 GIoU."""
    cost = (2 * focal_cost(logits, target["labels"], eps) + 5 * torch.cdist(boxes, target["boxes"], p=1)
            - 2 * overlap(pixels(boxes, size)[:, None], pixels(target["boxes"], size)[None])[1])
    return lsap(cost)


def focal_loss(logits, hot):
    p = logits.sigmoid()
    return (hot * 0.25 * (1 - p) ** 2 * -F.logsigmoid(logits) + (1 - hot) * 0.75 * p ** 2 * -F.logsigmoid(-logits)).sum()


def detection_loss(logits, boxes, targets, sizes, matchings):
    """One stage of D.2, for given matchings: (class, L1, GIoU)."""
    positives = max(sum(len(queries) for queries, _ in matchings), 1)
    terms = [0, 0, 0]
    for b, (queries, objects) in enumerate(matchings):
        hot = torch.zeros_like(logits[b])
        hot[queries, targets[b]["labels"][objects]] = 1
        chosen, wanted = boxes[b][queries], targets[b]["boxes"][objects]
        terms[0] = terms[0] + 2 * focal_loss(logits[b], hot) / positives
        terms[1] = terms[1] + 5 * (chosen - wanted).abs().sum() / positives
        terms[2] = terms[2] + 2 * (1 - overlap(pixels(chosen, sizes[b]), pixels(wanted, sizes[b]))[1]).sum() / positives
    return terms


def teacher_targets(logits, boxes, size):
    """A.2: soft classes; the clipped box in pixels and as normalised centre form."""
    corners = pixels(boxes, size)
    limit = size.repeat(2)
    corners = torch.minimum(corners.clamp(min=0), limit)
    return logits.sigmoid(), corners, to_centre(corners / limit)


def logits_loss(student, teacher, sizes, s, t):
    """A.3, A.4 of student stage s with teacher stage t."""
    batch = student["logits"].shape[1]
    terms, pairs = [0, 0, 0], batch * min(student["logits"].shape[2], teacher["logits"].shape[2])
    for b in range(batch):
        x, y = student["logits"][s, b], student["boxes"][s, b]
        soft, corners, centre = teacher_targets(teacher["logits"][t, b], teacher["boxes"][t, b], sizes[b])
        class_cost = F.softplus(x).sum(-1, keepdim=True) - x @ soft.T
        giou = overlap(pixels(y, sizes[b])[:, None], corners[None])[1]
        i, j = lsap(class_cost + 5 * torch.cdist(y, centre, p=1) - 2 * giou)
        terms[0] = terms[0] + F.binary_cross_entropy_with_logits(x[i], soft[j], reduction="sum") / pairs
        terms[1] = terms[1] + 5 * (y[i] - centre[j]).abs().sum() / pairs
        terms[2] = terms[2] + 2 * (1 - giou[i, j]).sum() / pairs
    return sum(terms)


def feature_mask(teacher, targets, sizes, stage, b, features, topk=100):
    """psi of B.2, B.3: one stage, image and level."""
    flat = teacher["logits"][stage, b].flatten()
    logit, index = flat.topk(min(topk, flat.numel()))
    query = index // teacher["logits"].shape[-1]
    quality = logit.sigmoid()
    if len(targets[b]["boxes"]):
        boxes = pixels(teacher["boxes"][stage, b][query], sizes[b])
        iou = overlap(boxes[:, None], pixels(targets[b]["boxes"], sizes[b])[None])[0]
        quality = quality * iou.max(-1).values
    rows = F.normalize(teacher["queries"][stage, b][query], dim=-1)
    similarity = (quality[:, None] * (rows @ F.normalize(features, dim=0).flatten(1))).sum(0).clamp(min=0.01)
    return (similarity / similarity.max()).view(features.shape[1:])


def features_loss(student, teacher, targets, sizes):
    total = 0
    for theirs, ours in zip(teacher["features"], student["features"]):
        for b in range(theirs.shape[0]):
            for stage in range(teacher["logits"].shape[0]):
                psi = feature_mask(teacher, targets, sizes, stage, b, theirs[b])
                total = total + ((psi * (theirs[b] - ours[b])) ** 2).sum() / theirs.numel()
    return total


def distillation(student, teacher, prior, targets, sizes):
    """{'det', 'logits', 'features', 'prior'}: the modules of the default profile."""
    stages, teacher_stages = student["logits"].shape[0], teacher["logits"].shape[0]
    group = teacher_stages // stages
    total = {"det": 0, "logits": 0, "prior": 0}
    for s in range(stages):
        def matchings(outputs, stage):
            return [object_matching(outputs["logits"][stage, b], outputs["boxes"][stage, b], targets[b], sizes[b])
                    for b in range(len(targets))]

        total["det"] += sum(detection_loss(student["logits"][s], student["boxes"][s], targets, sizes, matchings(student, s)))
        for t in range(s * group, (s + 1) * group):
            total["logits"] += logits_loss(student, teacher, sizes, s, t)
        assigned = matchings(teacher, (s + 1) * group - 1)
        total["prior"] += sum(detection_loss(prior["logits"][s], prior["boxes"][s], targets, sizes, assigned))
    total["features"] = features_loss(student, teacher, targets, sizes)
    return total


def hungarian_matcher(outputs, targets):
    """The matcher of DETR's training code with the focal class cost: normalised boxes, costs 2, 5, 2."""
    indices = []
    for b, target in enumerate(targets):
        logits, boxes = outputs["pred_logits"][b], outputs["pred_boxes"][b]
        a, t = to_corners(boxes)[:, None], to_corners(target["boxes"])[None]
        side = (torch.minimum(a[..., 2:], t[..., 2:]) - torch.maximum(a[..., :2], t[..., :2])).clamp(min=0)
        inter = side.prod(-1)
        union = (a[..., 2:] - a[..., :2]).prod(-1) + (t[..., 2:] - t[..., :2]).prod(-1) - inter
        hull = (torch.maximum(a[..., 2:], t[..., 2:]) - torch.minimum(a[..., :2], t[..., :2])).prod(-1)
        giou = inter / union - (hull - union) / hull
        cost = 2 * focal_cost(logits, target["labels"], 1e-8) + 5 * torch.cdist(boxes, target["boxes"], p=1) - 2 * giou
        indices.append(lsap(cost))
    return indices
