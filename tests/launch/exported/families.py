"""Small runs of several tasks, not trained: parameters are random numbers."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxgen.task import Task
from launch.config import loading
from launch.data import batches
from launch.engine import experiments, trained_runs

HERE = "tests.launch.exported.families"
FAMILIES = {
    "gan": {
        "task": {"name": "jaxgen.gan:gan", "latents": 4, "classes": 2},
        "model": {
            "generator": {"name": "jaxgen.nets:MLPDecoder", "widths": (8,)},
            "discriminator": {"name": "jaxgen.nets:MLPDiscriminator", "widths": (8,)},
        },
        "optimizer": {
            key: {"name": "optax:sgd", "learning_rate": 1e-3, "ema": ema}
            for key, ema in (("generator", 0.9), ("discriminator", 0.0))
        },
    },
    "vae": {
        "task": {"name": "jaxgen.vae:vae"},
        "model": {
            "encoder": {"name": "jaxgen.nets:MLPEncoder", "latents": 2, "widths": (4,)},
            "decoder": {"name": "jaxgen.nets:MLPDecoder", "widths": (4,)},
        },
    },
    "pixels": {
        "task": {
            "name": "jaxgen.autoregressive:pixel_rnn",
            "classes": 2,
            "likelihood": {"name": "jaxgen.likelihoods:binary"},
        },
        "model": {
            "name": "jaxgen.nets:PixelCNN",
            "first": 3,
            "layers": 1,
            "features": 4,
            "head": 4,
        },
    },
    "flow": {
        "task": {
            "name": "jaxgen.flow:flow",
            "classes": 2,
            "sampling": {
                "name": "jaxgen.flows:step_by_step",
                "guidance": 1.5,
                "sampler": {"name": "jaxgen.flows:heun"},
                "grid": {"name": "jaxgen.flows:even_times", "steps": 3},
            },
        },
        "model": {
            "name": "jaxgen.nets:ImageTransformer",
            **{"patch": 1, "width": 8, "layers": 1, "heads": 2},
        },
    },
    "unet": {
        "task": {"name": "jaxseg.segmentation:segmentation", "classes": 3},
        "model": {"name": "jaxseg.nets:UNet", "widths": (4,), "convolutions": 1, "norm": "batch"},
    },
    "spots": {"task": {"name": f"{HERE}:spots"}},
    "painter": {"task": {"name": f"{HERE}:painter"}},
}


class Examples(list):
    """Examples of image, mask and label; the masks have classes."""

    classes = ("ground", "red", "blue")


def examples(split, channels=1, count=8):
    rng = np.random.default_rng(len(split))
    ids = rng.integers(0, 3, (count, 4, 3, 1)).astype(np.uint8)
    image = np.repeat(60 * ids + rng.integers(0, 100, ids.shape).astype(np.uint8), channels, -1)
    columns = {"image": image, "segmentation": ids, "label": np.arange(count) % 2}
    rows = [{key: column[row] for key, column in columns.items()} for row in range(count)]
    return Examples(rows)


def images(split):
    """The same without masks, so that the data name no classes."""
    return [{"image": row["image"], "label": row["label"]} for row in examples(split)]


BRIGHT = (0.2, 0.5, 0.9)


class State(NamedTuple):
    params: dict


def _task(**functions):
    """A task that trains in no time: its state is one vector, its loss a count."""
    sums = lambda state, batch, rng: {"loss": jnp.sum(batch["mask"] * 1.0)}
    return Task(
        init=lambda rng, batch: State({"bright": jnp.array(BRIGHT), "unused": jnp.ones(5)}),
        train_step=lambda state, batch, rng: (state, sums(state, batch, rng)),
        eval_step=sums,
        finish=lambda sums: {"loss": float(sums["loss"])},
        figures=lambda state, batch, rng: {"images": batch["image"]},
        **functions,
    )


def _noise(batch, rng):
    draw = lambda index: jax.random.uniform(jax.random.fold_in(rng, index), (4, 3, 1))
    return jax.vmap(draw)(batch["index"])


def spots(optimizer, example):
    """Draws noise under a pattern that the state holds."""
    return _task(
        sample=lambda state, batch, rng: _noise(batch, rng) * state.params["bright"][:, None]
    )


def painter(optimizer, example):
    """Paints the classes of a mask, a little off by the seed; has no sample()."""

    def complete(state, batch, rng):
        levels = jnp.array([0.0, 0.4, 0.8])
        return jnp.take(levels, batch["segmentation"], mode="clip") + 0.1 * _noise(batch, rng)

    return _task(complete=complete, given="segmentation")


def config_of(name, **changes):
    kind, data = FAMILIES[name], f"{HERE}:images"
    if name in ("unet", "painter"):
        data = f"{HERE}:examples"
    config = {
        "optimizer": {"name": "optax:sgd", "learning_rate": 1e-3},
        "data": {"name": data, "batch_size": 4},
        "mesh": {"data": 1},
    }
    config = loading.with_defaults(ConfigDict(config | kind), name)
    if name == "unet":
        config.data.kwargs = {"channels": 3}
    config.update_from_flattened_dict(changes)
    return config


def restored_of(name, **changes):
    """A run whose state is random, as if it had been trained for 4 steps."""
    config, rng = config_of(name, **changes), np.random.default_rng(0)
    data = batches.open_data(config.data, "train")
    experiment = experiments.build(config, data, training=False)

    def leaf_of(leaf):  # positive, as variances are
        return rng.uniform(0.05, 0.4, leaf.shape).astype(leaf.dtype)

    state = jax.tree.map(leaf_of, experiment.compiled.template)
    return trained_runs.Restored(config, data, experiment, jax.device_put(state), 4)
