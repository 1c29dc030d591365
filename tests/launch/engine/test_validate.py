"""Each way to break the contract is named: the function, the leaf, the shapes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.task import Task
from launch.config.errors import UserError
from launch.data import batches
from launch.engine import validate

BATCH = batches.batch_spec({"image": jax.ShapeDtypeStruct((4, 4, 1), np.uint8)}, 6)


class State(NamedTuple):
    params: dict


def good():
    def init(rng, batch):
        return State({"w": jax.random.normal(rng, (3, 2))})

    def step(state, batch, rng):
        return state, {"loss": jnp.sum(batch["image"] / 255.0), "count": jnp.sum(batch["mask"])}

    return Task(
        init=init,
        train_step=step,
        eval_step=lambda state, batch, rng: step(state, batch, rng)[1],
        finish=lambda sums: {"loss": float(sums["loss"] / sums["count"])},
        figures=lambda state, batch, rng: {"inputs": batch["image"]},
    )


def check(**changes):
    return validate.validate_task(good()._replace(**changes), BATCH, "mine:task")[1]


def test_a_good_task_passes_and_gives_its_state():
    assert check().params["w"].shape == (3, 2)


def test_what_a_task_lacks_is_none_in_the_complete_task():
    class Least:
        """The five functions that every task has."""

    for name in validate.REQUIRED:
        setattr(Least, name, staticmethod(getattr(good(), name)))
    task, _ = validate.validate_task(Least, BATCH, "mine:task")
    assert task.score_step is task.eval_step is Least.eval_step
    assert (task.sample, task.given, task.accumulates) == (None, "", True)
    assert (
        validate.with_optional_fields(good()._replace(accumulates=False), "t").accumulates is False
    )
    assert validate.Task._fields == Task._fields
    assert validate.Task._field_defaults == Task._field_defaults


def grow(state, batch, rng):
    return State({"w": jnp.zeros((4, 2))}), {"loss": jnp.zeros(())}


def widen(state, batch, rng):
    return State({"w": state.params["w"].astype(jnp.bfloat16)}), {"loss": jnp.zeros(())}


def drop(state, batch, rng):
    return State({}), {"loss": jnp.zeros(())}


def add(state, batch, rng):
    return State(state.params | {"more": jnp.zeros(())}), {"loss": jnp.zeros(())}


def wrong_shapes(state, batch, rng):
    return state.params["w"] @ jnp.ones((3, 3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"finish": None}, r"has no finish\(\)"),
        ({"train_step": grow}, r"changes state.params\['w'\] from \(\(3, 2\).*to \(\(4, 2\)"),
        ({"train_step": widen}, r"changes state.params\['w'\].*float32.*bfloat16"),
        ({"train_step": drop}, r"drops the leaf state.params\['w'\]"),
        ({"train_step": add}, r"adds the leaf state.params\['more'\]"),
        ({"train_step": lambda s, b, r: (s, {}, {})}, r"must return \(state, sums\), got tuple"),
        ({"train_step": lambda s, b, r: (s, {})}, "sums as a dict"),
        ({"figures": lambda s, b, r: {"two": jnp.zeros((6, 4, 4, 2))}}, r"two as float32.*1 or 3"),
        (
            {"train_step": lambda s, b, r: s},
            r"train_step\(\) must return \(state, sums\), got State",
        ),
        ({"train_step": lambda s, b, r: (s, jnp.zeros(3))}, "sums as a dict"),
        ({"train_step": lambda s, b, r: (s, {"loss": r})}, r"gives sums\['loss'\] of key"),
        (
            {
                "train_step": lambda s, b, r: (s, {"accuracy": jnp.ones(())}),
                "finish": lambda sums: {"accuracy": 1.0},
            },
            'gives no "loss", only',
        ),
        ({"eval_step": wrong_shapes}, r"eval_step\(\) fails at .*test_validate.py:\d+: TypeError"),
        (
            {"eval_step": lambda s, b, r: {"other": jnp.ones(())}},
            r"finish\(\) fails at .* on the sums of eval_step\(\): KeyError: 'loss'",
        ),
        ({"finish": lambda sums: {"loss": "low"}}, r"finish\(\) must return numbers"),
        ({"figures": lambda s, b, r: {"flat": jnp.zeros((6, 16))}}, r"flat as float32\[6, 16\]"),
        ({"figures": lambda s, b, r: {"ids": jnp.zeros((6, 4, 4, 1), int)}}, "ids as int32"),
        ({"sample": lambda s, b, r: jnp.zeros((6, 4, 4))}, r"sample\(\) gives images as"),
    ],
)
def test_each_breach_is_named(changes, message):
    with pytest.raises(UserError, match=message) as caught:
        check(**changes)
    assert str(caught.value).startswith("mine:task")


def images_of(key):
    return lambda state, batch, rng: batch[key][:, None, None, None] * jnp.ones((1, 4, 4, 1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample": lambda s, b, r: b["image"]}, r"sample\(\) fails .*KeyError: 'image'"),
        ({"sample": images_of("mask")}, r"sample\(\) fails .*KeyError: 'mask'"),
        (
            {"complete": images_of("index"), "given": "depth"},
            "makes images from `depth`, but the data",
        ),
        (
            {"complete": lambda s, b, r: b["keep"] / 1, "given": "image"},
            r"complete\(\) fails .*KeyError: 'keep'",
        ),
        (
            {"complete": lambda s, b, r: 1.0 * b.get("keep", b["image"])[0], "given": "image"}
            | {"keeps_pixels": True},
            r"complete\(\) gives images as float32\[4, 4, 1\]",
        ),
        ({"keeps_pixels": True}, r"has keeps_pixels, and lacks complete\(\) or `given`"),
        ({"interpolate": lambda s, b, r: b["end"]}, r"interpolate\(\) gives images as int32\[6\]"),
        ({"log_prob": lambda s, b, r: jnp.zeros(())}, r"log_prob\(\) gives \(\)"),
        ({"recover": lambda s: State({})}, r"recover\(\) drops the leaf state.params\['w'\]"),
    ],
)
def test_each_breach_of_an_optional_function_is_named(changes, message):
    with pytest.raises(UserError, match=message):
        check(**changes)


def test_optional_functions_that_keep_the_contract_pass():
    check(
        sample=images_of("label"),
        complete=lambda s, b, r: b["image"] / 255.0 * b.get("keep", 1),
        given="image",
        keeps_pixels=True,
        interpolate=lambda s, b, r: jnp.zeros((6, 3, 4, 4, 3)) + b["end"][0],
        log_prob=lambda s, b, r: jnp.zeros(6),
        recover=lambda s: s,
    )
