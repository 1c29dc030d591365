"""The checks that any generative task must pass, whatever its net; each gives a `Finding`."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from launch.audits.fixtures import AuditedModel, examples, key

PASS, FAIL, NONE = "pass", "FAIL", "n/a"
CHUNK = 64  # perturbed images, or tangents, at a time
CLOSE = 1e-4  # relative difference up to which rounding is the explanation


class Finding(NamedTuple):
    """The result of a check.

    Attributes:
      check: its name.
      on: the title of the model that was checked.
      outcome: `PASS`, `FAIL`, or `NONE` where the check does not apply.
      detail: the numbers, or why the check does not apply.
    """

    check: str
    on: str
    outcome: str
    detail: str


def finding(check: str, model: AuditedModel, passed: bool, detail: str) -> Finding:
    """The finding of a check that applies.

    Args:
      check: its name.
      model: the model that was checked.
      passed: whether the model passed.
      detail: the numbers.
    """
    return Finding(check, model.title, PASS if passed else FAIL, detail)


def causality(model: AuditedModel) -> Finding:
    """Checks that p(x_i | ...) depends on the values before x_i alone.

    The Jacobian of `conditionals` must be exactly zero for x_i and all later values. The
    Jacobian does not see values that are rounded or looked up. So images that differ from
    value j on must also give the same conditionals up to j.

    Args:
      model: of a task with `conditionals`.
    """
    shape, size = model.shape, int(np.prod(model.shape))
    batch = examples(model, 1)
    conditionals = jax.jit(
        lambda x: model.task.conditionals(model.state, x.reshape(1, *shape), batch).reshape(
            size, -1
        )
    )
    rng = np.random.default_rng(0)
    later = np.tril(np.ones((size, size), bool))  # [j, i]: j >= i
    x, influence = _influence(conditionals, size, rng)
    leaks = later & ~(influence == 0)  # NaN is a leak too
    if leaks.any():
        j, i = np.unravel_index(np.argmax(leaks), leaks.shape)
        detail = f"{_place(i, shape)} depends on {_place(j, shape)}, slope {influence[j, i]:.3g}"
        return finding("causality", model, False, f"{detail}; {leaks.sum():,} such pairs")
    change = _relative_changes(conditionals, x, rng)
    leaks = later & ~(change < CLOSE)
    if leaks.any():
        j, i = np.unravel_index(np.argmax(leaks), leaks.shape)
        detail = f"{_place(i, shape)} changes with the values from {_place(j, shape)} on"
        return finding("causality", model, False, f"{detail}, by {change[j, i]:.3g}")
    detail = f"Jacobian 0 where it must be; {_seen(influence, shape)}"
    return finding("causality", model, True, detail)


def _influence(conditionals, size, rng):
    """The largest slope of conditional i by value j over two images, [j, i]; the last image."""
    influence = np.zeros((size, size))
    for _ in range(2):
        x = rng.uniform(-1, 1, size).astype(np.float32)
        slope = lambda tangent, x=x: jnp.abs(jax.jvp(conditionals, (x,), (tangent,))[1]).max(-1)
        columns = jax.lax.map(slope, jnp.eye(size), batch_size=CHUNK)
        influence = np.maximum(influence, np.asarray(columns))
    return x, influence


def _relative_changes(conditionals, x, rng):
    """How much conditional i changes if all values from j on do, [j, i]."""
    size = len(x)
    unchanged = np.asarray(conditionals(x))
    after = np.arange(size)[None] >= np.arange(size)[:, None]
    images = np.where(after, rng.uniform(-1, 1, (size, size)), x).astype(np.float32)
    changed = np.asarray(jax.lax.map(conditionals, jnp.asarray(images), batch_size=CHUNK))
    return np.abs(changed - unchanged).max(-1) / np.maximum(np.abs(unchanged).max(), 1.0)


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


def by_seed(model: AuditedModel) -> Finding:
    """Checks that an image depends on its seed alone: not on the other images of the batch.

    Args:
      model: of a task that samples or completes; else the check does not apply.
    """
    task, name = model.task, "sample by seed"
    function = task.sample or task.complete
    if function is None:
        return Finding(name, model.title, NONE, "the task has no sample() and no complete()")
    batch = examples(model, 13)
    taken = {"index", "label", *([task.given] if task.sample is None else [])}
    batch = {"label": np.zeros(13, np.int32)} | {k: v for k, v in batch.items() if k in taken}
    run = jax.jit(lambda batch: function(model.state, batch, key(1)))
    whole = np.asarray(run(batch), np.float32)
    worst = 0.0
    for places in ([5], [12, 3, 5, 0], list(range(12, -1, -1))):
        some = run({k: v[places] for k, v in batch.items()})
        worst = max(worst, float(np.abs(np.asarray(some, np.float32) - whole[places]).max()))
    if not worst <= CLOSE:
        return finding(name, model, False, f"the same seed in another batch differs by {worst:.3g}")
    if task.sample is not None and np.ptp(whole, axis=0).max() == 0:
        return finding(name, model, False, "13 seeds give the same image")
    return finding(name, model, True, f"alone, among others, in another order: within {worst:.1e}")


def evaluation(model: AuditedModel) -> Finding:
    """Checks that the sums of a batch are those of its parts, and that padding does not count.

    Args:
      model: of any task.
    """
    step = jax.jit(lambda batch: model.task.eval_step(model.state, batch, key(2)))
    batch = examples(model, 12)
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
    return finding("evaluation", model, worst <= CLOSE, detail + (f" ({where})" if where else ""))


def _at(tree, path):
    return functools.reduce(lambda node, step: node[step.key], path, tree)


def step(model: AuditedModel) -> Finding:
    """Checks that a training step is a function: from one state twice the same bits.

    Args:
      model: of any task.
    """
    run = jax.jit(model.task.train_step)
    batch = examples(model, 8)
    results = [jax.device_get(run(model.state, batch, key(3))) for _ in range(2)]
    pairs = list(zip(*map(jax.tree.leaves, results), strict=True))
    same = all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)
    finite = all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(results[0][1]))
    detail = "a step taken twice is the same to the bit" if same else "a step taken twice differs"
    detail += "" if finite else "; its sums are not finite"
    return finding("step", model, same and finite, detail)


def units(model: AuditedModel) -> tuple[Finding, float]:
    """Checks that bits/dim are nats / (dimensions ln 2), and nats those of `log_prob`.

    Args:
      model: of any task; the check does not apply if no metric ends in bits_per_dim.

    Returns:
      The finding, and the bits/dim that the metrics add: 8 for a density on [0, 1], whose
      256 levels are 1/256 wide, else 0.
    """
    task, size = model.task, float(np.prod(model.shape))
    images = np.random.default_rng(0).choice(np.array([0, 255], np.uint8), (8, *model.shape))
    batch = examples(model, 8, images)
    metrics = evaluated(model, batch)
    names = [name for name in metrics if name.endswith("bits_per_dim")]
    pairs = [(name, nats) for name in names if (nats := _metric_in_nats(name, metrics))]
    if not pairs:
        return Finding("units", model.title, NONE, "no metric is in bits per dimension"), 0.0
    offsets = [metrics[name] - metrics[nats] / (size * np.log(2)) for name, nats in pairs]
    offset = float(np.round(offsets[0]))
    passed = offset in (0.0, 8.0) and all(abs(other - offset) < 1e-4 for other in offsets)
    detail = ", ".join(
        f"{nats} {metrics[nats]:.5g} nats = {metrics[name]:.5g} bits/dim" for name, nats in pairs
    )
    detail += f" over {size:.0f} dimensions" + (" + 8, a density" if offset == 8.0 else "")
    if task.log_prob is not None:
        nats = -float(np.mean(jax.jit(task.log_prob)(model.state, batch, key(2))))
        known = metrics.get("nll", metrics["loss"])
        passed &= abs(nats - known) <= CLOSE * max(abs(known), 1.0)
        detail += f"; -log_prob {nats:.5g}"
    detail += _with_zero_parameters(model, batch)
    return finding("units", model, passed, detail), offset if passed else 0.0


def evaluated(model: AuditedModel, batch: dict) -> dict[str, float]:
    """Metrics of one batch, by `score_step` if the task has one.

    Args:
      model: of any task.
      batch: {name: [B, ...]}.
    """
    call = model.task.score_step or model.task.eval_step
    sums = jax.device_get(jax.jit(call)(model.state, batch, key(2)))
    return dict(model.task.finish(jax.tree.map(lambda x: np.asarray(x, np.float64), sums)))


def _metric_in_nats(name, metrics):
    """The metric in nats that belongs to a metric in bits/dim; None if there is none."""
    own = name.removesuffix("bits_per_dim").rstrip("_")
    candidates = [own] if own else ["negative_elbo", "nll", "loss"]
    return next((candidate for candidate in candidates if candidate in metrics), None)


def _with_zero_parameters(model, batch) -> str:
    """A known case: many models with all parameters zero are uniform, 1 or 8 bits/dim."""
    if not hasattr(model.state, "params") or not model.title.startswith("untrained"):
        return ""
    zero: Any = model.state._replace(params=jax.tree.map(jnp.zeros_like, model.state.params))
    metrics = evaluated(model._replace(state=zero), batch)
    name = "bits_per_dim" if "bits_per_dim" in metrics else "nll_bits_per_dim"
    return f"; all parameters zero: {metrics[name]:.4f}" if name in metrics else ""
