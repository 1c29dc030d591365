"""Plain functions and arrays in place of a compiled experiment and a data set."""

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from launch.config import schema
from launch.data import batches
from launch.engine import sharding
from launch.scoring import features

SIZE = 90  # examples of a split


def images(split):
    """Images uint8 [90, 8, 8, 1] with one bright quarter, and its number as the label."""
    rng = np.random.default_rng(len(split))
    label = rng.integers(0, 4, SIZE)
    levels = rng.integers(0, 120, (SIZE, 2, 4, 2, 4))
    levels[np.arange(SIZE), label // 2, :, label % 2] += 100
    return {"image": levels.reshape(SIZE, 8, 8, 1).astype(np.uint8), "label": label}


def data_section(function="images", **values):
    """The data section of a config, for a function of this module."""
    section = schema.defaults().data
    section.name = f"{__name__}:{function}"
    section.update(values)
    return section


def open_images(split="test"):
    return batches.open_data(data_section(), split)


def experiment(devices=1, given="image", **functions):
    """An experiment whose compiled functions are plain ones."""
    mesh = Mesh(np.array(jax.devices()[:devices]).reshape(devices, 1), ("data", "fsdp"))
    put = partial(jax.device_put, device=sharding.batch_sharding(mesh))
    compiled = SimpleNamespace(put_batch=put, **({"sample": None, "complete": None} | functions))
    return SimpleNamespace(
        mesh=mesh, compiled=compiled, task=SimpleNamespace(given=given), example={}
    )


@jax.jit
def sample(state, batch):
    """Images of noise by seed, of at most 200 levels, 20 brighter for each class."""
    number = 7919 * batch["index"][:, None] + 104729 * jnp.arange(64) + 31 * state
    noise = (number.astype(jnp.uint32) * jnp.uint32(2654435761) >> 24) % 200
    levels = noise.astype(jnp.float32) + 20 * batch["label"][:, None]
    return levels.reshape(-1, 8, 8, 1) / 255


def quarters(data=None, eval_split="", force=False, classes=4):
    """Features are six pixels; the class is the brightest quarter."""

    def apply(params, images):
        means = images[..., 0].reshape(-1, 2, 4, 2, 4).mean((2, 4)).reshape(-1, 4)
        return images.reshape(len(images), -1)[:, params], means

    card = {"features": "quarters", "force": force, "eval_split": eval_split}
    places = jnp.array([18, 20, 27, 36, 43, 45])
    return features.Features(apply, places, 6, classes, card)
