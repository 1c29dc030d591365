"""Checks that any generative task must pass, whatever its net: each gives a `Finding`."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from launch.audits.fixtures import AuditedModel, examples, key

PASS, FAIL, NONE = "pass", "FAIL", "n/a"
CHUNK = 64  # perturbed images, or tangents, at a time
CLOSE = 1e-4  # relative difference that rounding may make


class Finding(NamedTuple):
    """What a check found.

    Attributes:
      check: its name.
      on: what was checked.
      verdict: `PASS`, `FAIL`, or `NONE` where it does not apply.
      detail: the numbers, or why it does not apply.
    """

    check: str
    on: str
    verdict: str
    detail: str


def finding(check: str, subject: AuditedModel, good: bool, detail: str) -> Finding:
    """A finding that is a pass or a fail."""
    return Finding(check, subject.title, PASS if good else FAIL, detail)


def causality(subject: AuditedModel) -> Finding:
    """Whether p(x_i | ...) depends on x before i alone, by the Jacobian and by changes.

    The Jacobian of `conditionals` must be exactly zero for i itself and all later
    values. It does not see what is rounded or looked up, so images that differ from
    value j on must also give the same conditionals up to j.
    """
    shape, size = subject.shape, int(np.prod(subject.shape))
    batch = examples(subject, 1)
    outputs = jax.jit(
        lambda x: subject.task.conditionals(subject.state, x.reshape(1, *shape), batch).reshape(
            size, -1
        )
    )
    rng = np.random.default_rng(0)
    influence = np.zeros((size, size))  # of value j on conditional i
    for _ in range(2):
        x = rng.uniform(-1, 1, size).astype(np.float32)
        slope = lambda tangent, x=x: jnp.abs(jax.jvp(outputs, (x,), (tangent,))[1]).max(-1)
        columns = jax.lax.map(slope, jnp.eye(size), batch_size=CHUNK)
        influence = np.maximum(influence, np.asarray(columns))
    later = np.tril(np.ones((size, size), bool))  # j >= i
    leaks = later & ~(influence == 0)  # no number is a leak too
    if leaks.any():
        j, i = np.unravel_index(np.argmax(leaks), leaks.shape)
        detail = f"{_place(i, shape)} depends on {_place(j, shape)}, slope {influence[j, i]:.3g}"
        return finding("causality", subject, False, f"{detail}; {leaks.sum():,} such pairs")
    base = np.asarray(outputs(x))
    after = np.arange(size)[None] >= np.arange(size)[:, None]
    changed = np.where(after, rng.uniform(-1, 1, (size, size)), x).astype(np.float32)
    moved = np.asarray(jax.lax.map(outputs, jnp.asarray(changed), batch_size=CHUNK))
    difference = np.abs(moved - base).max(-1) / np.maximum(np.abs(base).max(), 1.0)
    leaks = later & ~(difference < CLOSE)
    if leaks.any():
        j, i = np.unravel_index(np.argmax(leaks), leaks.shape)
        detail = f"{_place(i, shape)} changes with what follows from {_place(j, shape)} on"
        return finding("causality", subject, False, f"{detail}, by {difference[j, i]:.3g}")
    return finding(
        "causality", subject, True, f"Jacobian 0 where it must be; {_seen(influence, shape)}"
    )


def _seen(influence, shape):
    """How many of the earlier values each conditional sees, in words."""
    earlier = np.triu(np.ones_like(influence, bool), 1)
    unseen = earlier & (influence == 0)
    if not unseen.any():
        return f"every value sees all {earlier.sum():,} earlier ones"
    i = np.argmax(unseen.sum(0))
    j = np.argmax(unseen[:, i])
    return (
        f"of {earlier.sum():,} earlier values {unseen.sum():,} are never seen, "
        f"such as {_place(j, shape)} by {_place(i, shape)}"
    )


def _place(number, shape):
    row, column, channel = np.unravel_index(number, shape)
    return f"({row}, {column}{f', {channel}' if shape[2] > 1 else ''})"


def by_seed(subject: AuditedModel) -> Finding:
    """Whether an image depends on its seed alone: not on others, their order or number."""
    task, name = subject.task, "sample by seed"
    function = task.sample or task.complete
    if function is None:
        return Finding(name, subject.title, NONE, "the task has no sample() and no complete()")
    batch = examples(subject, 13)
    wanted = {"index", "label", *([task.given] if task.sample is None else [])}
    batch = {"label": np.zeros(13, np.int32)} | {k: v for k, v in batch.items() if k in wanted}
    run = jax.jit(lambda batch: function(subject.state, batch, key(1)))
    whole = np.asarray(run(batch), np.float32)
    worst = 0.0
    for places in ([5], [12, 3, 5, 0], list(range(12, -1, -1))):
        some = run({k: v[places] for k, v in batch.items()})
        worst = max(worst, float(np.abs(np.asarray(some, np.float32) - whole[places]).max()))
    if not worst <= CLOSE:
        return finding(
            name, subject, False, f"the same seed in another batch differs by {worst:.3g}"
        )
    if task.sample is not None and np.ptp(whole, axis=0).max() == 0:
        return finding(name, subject, False, "13 seeds give one and the same image")
    return finding(
        name, subject, True, f"alone, among others, in another order: within {worst:.1e}"
    )


def evaluation(subject: AuditedModel) -> Finding:
    """Whether the sums of an evaluation are those of its parts, padding not counted."""
    step = jax.jit(lambda batch: subject.task.eval_step(subject.state, batch, key(2)))
    batch = examples(subject, 12)
    first = {k: v[:5] for k, v in batch.items()}
    rest = {k: np.concatenate([v[5:], v[:2]]) for k, v in batch.items()}
    rest["mask"] = np.arange(9) < 7
    whole, *parts = (jax.device_get(step(part)) for part in (batch, first, rest))
    worst, where = 0.0, ""
    for path, value in jax.tree_util.tree_leaves_with_path(whole):
        added = sum(np.asarray(_at(part, path), np.float64) for part in parts)
        difference = np.max(np.abs(added - value) / np.maximum(np.abs(value), 1.0), initial=0.0)
        if not difference <= worst:
            worst, where = float(difference), jax.tree_util.keystr(path)
    detail = f"12 examples at once, or 5 and 7 padded to 9: within {worst:.1e}"
    return finding("evaluation", subject, worst <= CLOSE, detail + (f" ({where})" if where else ""))


def _at(tree, path):
    return functools.reduce(lambda node, step: node[step.key], path, tree)


def step(subject: AuditedModel) -> Finding:
    """Whether a training step is a function: twice from one state, to the bit."""
    run = jax.jit(subject.task.train_step)
    batch = examples(subject, 8)
    found = [jax.device_get(run(subject.state, batch, key(3))) for _ in range(2)]
    pairs = list(zip(*map(jax.tree.leaves, found), strict=True))
    same = all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)
    finite = all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found[0][1]))
    detail = "a step taken twice is the same to the bit" if same else "a step taken twice differs"
    detail += "" if finite else "; its sums are not finite"
    return finding("step", subject, same and finite, detail)


def units(subject: AuditedModel) -> tuple[Finding, float]:
    """Whether bits/dim are nats / (dimensions ln 2), and nats those of `log_prob`.

    Returns:
      The finding, and the bits that are added: 8 for a density on [0, 1], else 0.
    """
    task, size = subject.task, float(np.prod(subject.shape))
    images = np.random.default_rng(0).choice(np.array([0, 255], np.uint8), (8, *subject.shape))
    batch = examples(subject, 8, images)
    metrics = evaluated(subject, batch)
    pairs = [(name, _nats(name, metrics)) for name in metrics if name.endswith("bits_per_dim")]
    offsets = {
        name: metrics[name] - metrics[nats] / (size * np.log(2)) for name, nats in pairs if nats
    }
    if not offsets:
        return Finding("units", subject.title, NONE, "no metric is in bits per dimension"), 0.0
    offset = float(np.round(next(iter(offsets.values()))))
    good = offset in (0.0, 8.0) and all(abs(o - offset) < 1e-4 for o in offsets.values())
    detail = ", ".join(
        f"{nats} {metrics[nats]:.5g} nats = {metrics[name]:.5g} bits/dim"
        for name, nats in pairs
        if nats
    )
    detail += f" over {size:.0f} dimensions" + (" + 8, a density" if offset == 8.0 else "")
    if task.log_prob is not None:
        nats = -float(np.mean(jax.jit(task.log_prob)(subject.state, batch, key(2))))
        known = metrics.get("nll", metrics["loss"])
        good &= abs(nats - known) <= CLOSE * max(abs(known), 1.0)
        detail += f"; -log_prob {nats:.5g}"
    detail += _blank(subject, batch)
    return finding("units", subject, good, detail), offset if good else 0.0


def evaluated(subject: AuditedModel, batch: dict) -> dict[str, float]:
    """Metrics of one batch, the thorough ones where there are any."""
    call = subject.task.score_step or subject.task.eval_step
    sums = jax.device_get(jax.jit(call)(subject.state, batch, key(2)))
    return dict(subject.task.finish(jax.tree.map(lambda x: np.asarray(x, np.float64), sums)))


def _nats(name, metrics):
    """The metric in nats that one in bits belongs to."""
    own = name.removesuffix("bits_per_dim").rstrip("_")
    candidates = [own] if own else ["negative_elbo", "nll", "loss"]
    return next((candidate for candidate in candidates if candidate in metrics), None)


def _blank(subject, batch) -> str:
    """The known case: with all parameters zero many models are uniform, 1 or 8 bits."""
    if not hasattr(subject.state, "params") or not subject.title.startswith("untrained"):
        return ""
    zero: Any = subject.state._replace(params=jax.tree.map(jnp.zeros_like, subject.state.params))
    metrics = evaluated(subject._replace(state=zero), batch)
    name = "bits_per_dim" if "bits_per_dim" in metrics else "nll_bits_per_dim"
    return f"; all parameters zero: {metrics[name]:.4f}" if name in metrics else ""
