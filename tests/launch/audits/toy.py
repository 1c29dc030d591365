"""A small autoregressive task for audits; each `fault` breaks one promise of a task."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from jaxgen.task import Task
from launch import audit
from launch.config import loading

NAME = "tests.launch.audits.toy"


class State(NamedTuple):
    params: Any
    opt_state: Any


def images(split, shape=(4, 3, 1)):
    rng = np.random.default_rng(len(split))
    count = (8, *shape)
    return {"image": rng.integers(0, 256, count).astype(np.uint8), "label": np.arange(8) % 3}


def by_example(draw, rng, index):
    return jax.vmap(lambda i: draw(jax.random.fold_in(rng, i)))(index)


def autoregressive(
    optimizer, example, levels=2, classes=0, means=False, fault="", smallest=1, estimated=False
):
    """Logistic regressions of each value on those before.

    Args:
      levels: that a value can have.
      classes: each with logits of its own; 0 for none.
      means: sample() shows p(x_i = 1 | x before i) in place of x_i.
      fault: the promise that is broken.
      smallest: number of values of an image below which the task cannot be made.
      estimated: nll is exact but for noise, and there is no log_prob().
    """
    shape = example["image"].shape
    size, ids = int(np.prod(shape)), max(classes, 1)
    if size < smallest:
        raise ValueError(f"needs {smallest} values\nand more")
    mask = np.tril(np.ones((size, size)), 0 if fault == "sees itself" else -1)
    if fault == "sees the end":
        mask[0, -1] = 1e-6
    if fault == "blind":
        mask[3, :2] = 0

    def conditionals(state, x, batch):
        flat = x.reshape(len(x), size)
        steps = jnp.round(flat[:, -1:]) if fault == "rounded end" else 0.0
        hidden = jnp.tanh(flat @ (state.params["w"] * mask).T + steps)
        label = batch["label"] if classes else jnp.zeros(len(x), int)
        shift = state.params["shift"][jnp.minimum(label, ids - 1)]
        logits = hidden[..., None] * state.params["scale"] + shift[:, None] + state.params["b"]
        return logits.reshape(len(x), *shape, levels)

    def normalise(batch, rng):
        if levels > 2:
            return batch["image"] / (levels - 1.0)
        draw = lambda key: jax.random.uniform(key, shape)
        return (by_example(draw, rng, batch["index"]) < batch["image"] / 255.0) * 1.0

    def log_prob(state, batch, rng):
        x = normalise(batch, rng)
        chosen = jnp.round(x * (levels - 1)).astype(int)[..., None]
        log = jax.nn.log_softmax(conditionals(state, x, batch))
        return jnp.take_along_axis(log, chosen, -1).sum((1, 2, 3, 4))

    def sample(state, batch, rng):
        draw = lambda key: jax.random.gumbel(key, (size, levels))
        noise = by_example(draw, rng, batch["index"])
        if fault == "place in the batch":
            noise = jax.random.gumbel(rng, noise.shape)
        if fault == "one image":
            noise = 0 * noise
        factor = 0.5 if fault == "too random" else 1.0

        def fill(place, both):
            x, shown = both
            logits = factor * conditionals(state, x, batch).reshape(len(x), size, levels)[:, place]
            chosen = jnp.argmax(logits + noise[:, place], -1) / (levels - 1)
            mean = jax.nn.softmax(logits) @ jnp.linspace(0, 1, levels)
            put = lambda x, value: x.reshape(len(x), size).at[:, place].set(value).reshape(x.shape)
            return put(x, chosen), put(shown, mean if means else chosen)

        blank = jnp.zeros((len(batch["index"]), *shape))
        return jax.lax.fori_loop(0, size, fill, (blank, blank))[1]

    def sums(state, batch, rng):
        nll = -log_prob(state, batch, rng)
        if estimated:  # the mean of exp(-0.1 z - 0.005) is 1
            draw = lambda key: 0.1 * jax.random.normal(key) + 0.005
            nll += by_example(draw, rng, batch["index"])
        if fault == "means":
            return {"nll": nll.mean(), "count": jnp.ones(())}
        return {"nll": jnp.sum(nll * batch["mask"]), "count": jnp.sum(batch["mask"] * 1.0)}

    def init(rng, batch):
        params = {
            "w": jax.random.normal(rng, (size, size)),
            "scale": jnp.ones((1, levels)),
            "shift": jnp.zeros((ids, levels)),
            "b": jnp.zeros((size, levels)),
        }
        return State(params, optimizer.init(params))

    def train_step(state, batch, rng):
        loss = lambda params: sums(state._replace(params=params), batch, rng)["nll"]
        grads = jax.grad(loss)(state.params)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        result = sums(state, batch, rng)
        result["nll"] += jnp.nan if fault == "no number" else 0.0
        return State(optax.apply_updates(state.params, updates), opt_state), result

    def finish(sums):
        nats = float(sums["nll"] / sums["count"])
        base = 10.0 if fault == "decimal digits" else 2.0
        return {"loss": nats, "nll": nats, "bits_per_dim": nats / (size * np.log(base))}

    given = lambda state, batch, rng: {"images": batch["image"]}
    task = Task(
        init,
        train_step,
        sums,
        finish,
        given,
        sample=sample,
        log_prob=log_prob,
        conditionals=conditionals,
    )
    return task._replace(log_prob=None, sample=None) if estimated else task


def silent(optimizer, example):
    """Generates nothing."""
    return autoregressive(optimizer, example)._replace(sample=None, log_prob=None)


def config(name="autoregressive", **task):
    """A config of the task above."""
    return loading.with_defaults(
        ConfigDict(
            {
                "task": {"name": f"{NAME}:{name}"} | task,
                "optimizer": {"name": "optax:sgd", "learning_rate": 1e-3, "ema": 0.9},
                "data": {"name": f"{NAME}:images", "batch_size": 4},
                "train": {"steps": 2},
                "eval": {"every": 2},
                "mesh": {"data": 1},
            }
        ),
        "config",
    )


def factory(**task):
    return audit.of_config(config(**task))


def outcomes(findings):
    return {one.check: one.outcome for one in findings}
