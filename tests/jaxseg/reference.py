"""Losses and metrics once more, pixel by pixel in numpy float64, for the tests."""

import numpy as np
from hypothesis import strategies as st
from scipy import ndimage

CLASSES, SHAPE = 3, (2, 6, 7)  # one shape, so that each function compiles once


@st.composite
def labelled(draw, ignore=255):
    """Logits and ids of a batch, often degenerate: constant, one class, all ignored."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    kind = draw(st.sampled_from(["random", "one class", "two classes", "ignored", "flat"]))
    scale = draw(st.sampled_from([0.1, 1.0, 8.0]))
    logits = scale * rng.normal(size=(*SHAPE, CLASSES))
    ids = rng.integers(0, CLASSES, SHAPE)
    if kind == "one class":
        ids[:] = rng.integers(CLASSES)
    elif kind == "two classes":
        ids = np.where(ids == 2, 0, ids)
    elif kind == "ignored":
        ids[0] = ignore
    elif kind == "flat":
        logits[:] = 0.0
    ids[rng.random(SHAPE) < 0.2] = ignore
    return logits.astype(np.float32), ids.astype(np.int32)


def softmax(logits):
    logits = logits.astype(np.float64)
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def counted(logits, ids):
    """Yields (probabilities [n, K], ids [n]) of each example's labelled pixels."""
    for p, t in zip(softmax(logits), ids, strict=True):
        yield p[t != 255], t[t != 255]


def cross_entropy(logits, ids, weights=(1, 1, 1), smoothing=0.0):
    out = []
    for p, t in counted(logits, ids):
        target = (1 - smoothing) * np.eye(CLASSES)[t] + smoothing / CLASSES
        w = np.array(weights)[t]
        out.append((-(target * np.log(p)).sum(1) * w).sum() / w.sum() if w.sum() else 0.0)
    return np.array(out)


def focal(logits, ids, gamma):
    out = []
    for p, t in counted(logits, ids):
        right = p[np.arange(len(t)), t]
        out.append(np.mean((1 - right) ** gamma * -np.log(right)) if len(t) else 0.0)
    return np.array(out)


def top_k(logits, ids, share):
    out = []
    for p, t in counted(logits, ids):
        worst = np.sort(-np.log(p[np.arange(len(t)), t]))[::-1]
        out.append(worst[: int(np.ceil(np.float32(share) * len(t)))].mean() if len(t) else 0.0)
    return np.array(out)


def tversky(logits, ids, alpha, beta, smooth, gamma=1.0):
    out = []
    for p, t in counted(logits, ids):
        terms = []
        for k in np.unique(t):
            hit = p[t == k, k].sum()
            extra, missed = p[t != k, k].sum(), (1 - p[t == k, k]).sum()
            index = (hit + smooth) / (hit + alpha * extra + beta * missed + smooth)
            terms.append((1 - index) ** gamma)
        out.append(np.mean(terms) if terms else 0.0)
    return np.array(out)


def dice(logits, ids, smooth):
    out = []
    for p, t in counted(logits, ids):
        terms = [
            1 - (2 * p[t == k, k].sum() + smooth) / (p[:, k].sum() + (t == k).sum() + smooth)
            for k in np.unique(t)
        ]
        out.append(np.mean(terms) if terms else 0.0)
    return np.array(out)


def generalised_dice(logits, ids):
    out = []
    for p, t in counted(logits, ids):
        present = np.unique(t)
        weight = {k: 1 / (t == k).sum() ** 2 for k in present}
        over = sum(weight[k] * p[t == k, k].sum() for k in present)
        under = sum(weight[k] * (p[:, k].sum() + (t == k).sum()) for k in present)
        out.append(1 - 2 * over / under if len(present) else 0.0)
    return np.array(out)


def lovasz(logits, ids):
    """The definition: sum over sorted errors of m_(i) (J(first i) - J(first i - 1))."""
    out = []
    for p, t in counted(logits, ids):
        terms = []
        for k in np.unique(t):
            errors = np.abs((t == k) - p[:, k])
            order = np.argsort(-errors, kind="stable")
            jaccard = [0.0]
            for i in range(1, len(order) + 1):
                wrong = np.zeros(len(t), bool)
                wrong[order[:i]] = True
                true = t == k
                guess = true ^ wrong
                union = (true | guess).sum()
                jaccard.append(1 - (true & guess).sum() / union if union else 0.0)
            terms.append((errors[order] * np.diff(jaccard)).sum())
        out.append(np.mean(terms) if terms else 0.0)
    return np.array(out)


def boundary(logits, ids):
    out = []
    for p, t in zip(softmax(logits), ids, strict=True):
        terms, valid = [], t != 255
        for k in np.unique(t[valid]):
            region = t == k
            signed = np.zeros(t.shape)
            if not region.all():
                outside = ndimage.distance_transform_edt(~region)
                inside = ndimage.distance_transform_edt(region)
                signed = np.where(region, 1 - inside, outside)
            terms.append((p[..., k] * signed)[valid].sum() / valid.sum())
        out.append(np.mean(terms) if terms else 0.0)
    return np.array(out)


def contour(region):
    """Pixels of a region with a 4-neighbour that is not of it; none is beyond the image."""
    return region & ~ndimage.binary_erosion(region)
