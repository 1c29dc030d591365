"""Guidance by the class: the right formula, and formulas with a fault each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxgen.flows import images
from jaxgen.task import Task
from launch import audit
from launch.audits import guidance as module
from launch.audits.checks import FAIL, NONE, PASS
from launch.audits.fixtures import AuditedModel, ModelFactory
from launch.config import loading, schema
from tests.launch.audits.toy import images as photos
from tests.launch.test_flow_program import config_of

HERE = "tests.launch.audits.test_guidance"
NONE_IMAGE, CLASSES = 0.5, jnp.array([0.2, 0.4, 0.9])
FORMULAS = {
    "": lambda x, none, g: none + g * (x - none),
    "counts from 0": lambda x, none, g: x + g * (x - none),
    "swaps": lambda x, none, g: x + g * (none - x),
    "ignores": lambda x, none, g: x,
    "no number": lambda x, none, g: x + g * jnp.nan,
}


def painter(optimizer, example, classes=0, sampling=None, fault="", refuses=False):
    """Paints images in the brightness of their class, guided by one formula or another."""
    guidance = sampling.guidance if sampling else 1.0
    if refuses and guidance != 1.0:
        raise ValueError("no step begins there")

    def sample(state, batch, rng):
        x = CLASSES[batch["label"]]
        by = FORMULAS[fault](x, NONE_IMAGE, jnp.float32(guidance))
        return jnp.broadcast_to((x if guidance == 1.0 else by)[:, None, None, None], (4, 4, 3, 1))

    return Task(*[None] * 5, sample=sample)


def audited(**task):
    config = loading.with_defaults(
        ConfigDict(
            {
                "task": {"name": f"{HERE}:painter"} | task,
                "optimizer": {"name": "optax:sgd", "learning_rate": 0.1},
                "data": {"name": f"{photos.__module__}:images"},
            }
        ),
        "here",
    )
    example = {
        "image": jax.ShapeDtypeStruct((4, 3, 1), np.uint8),
        "label": jax.ShapeDtypeStruct((), np.int32),
    }
    split = type("Split", (), {"classes": ()})
    factory = ModelFactory(config, type("Data", (), {"split": split}))
    made = painter(None, None)
    return module.guidance(factory, AuditedModel(made, None, example, 3, "own"))


def test_the_formula_with_1_changes_nothing_and_3_does():
    (found,) = audited(classes=3)
    assert (found.check, found.outcome) == ("guidance 1 equals none", PASS)
    assert found.detail.startswith("by the formula, 4 images: within ")
    assert np.float32(module.ABOVE_ONE) == 1.0 != module.ABOVE_ONE


@pytest.mark.parametrize("fault", list(FORMULAS)[1:])
def test_a_wrong_formula_is_found(fault):
    (found,) = audited(classes=3, fault=fault)
    assert found.outcome == FAIL
    assert ("guidance does not act" in found.detail) == (fault in ("ignores", "no number"))


def test_what_does_not_apply_says_why():
    assert audited()[0][2:] == (NONE, "the model has no classes")
    (found,) = audited(classes=3, refuses=True)
    assert found.outcome == NONE
    assert "no step begins there" in found.detail


def test_a_flow_passes_and_a_planted_error_is_found(monkeypatch):
    config = config_of(**{"task.levels": 0, "task.sampling.grid.steps": 2, "model.width": 8})
    euler = dict(config.task.sampling) | {"sampler": {"name": "jaxgen.flows:euler"}}
    config = schema.with_values(config, {"task.sampling": euler})
    factory = audit.of_config(config)
    own, right = factory.at(), images.guided_image
    assert module.guidance(factory, own)[0].outcome == PASS

    def swapped(model, *rest):
        """x_none and x_class in each other's place."""
        options = model.sampling
        by = lambda value: right(model._replace(sampling=options._replace(guidance=value)), *rest)
        plain, none = by(1.0), by(0.0)
        return plain if options.guidance == 1.0 else plain + options.guidance * (none - plain)

    monkeypatch.setattr(images, "guided_image", swapped)
    assert module.guidance(factory, own)[0].outcome == FAIL
