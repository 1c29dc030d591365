"""Probabilities over every image of a grid sum to one, and faults of them are caught."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from launch import audit
from launch.audits import checks, enumeration
from launch.audits.fixtures import ModelFactory
from launch.audits.grids import Grid
from tests.launch.audits import toy


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ({"fault": "not normalised"}, {"sum to one": "FAIL"}),
        ({"fault": "sees itself"}, {"sum to one": "FAIL"}),
        ({"fault": "too random"}, {"sum to one": "pass", "sampler": "FAIL"}),
        ({"fault": "too random", "means": True}, {"sum to one": "pass", "sampler": "FAIL"}),
    ],
)
def test_each_fault_of_probabilities_is_caught(task, expected):
    findings = enumeration.total_probability(toy.factory(**task), True, 0.0)
    assert toy.outcomes(findings) == expected, audit.table(findings)


def test_all_sizes_that_were_tried_are_named():
    (found,) = enumeration.total_probability(toy.factory(fault="sees itself"), True, 0.0)
    binary, grey = found.detail.split("; ")
    assert binary.startswith("512 images of 3 x 3 in 2 levels: ")
    assert grey.startswith("65,536 images of 1 x 2 in 256 levels: ")
    assert found.on == "untrained, 1 x 2 x 1"
    (found,) = enumeration.total_probability(
        toy.factory(fault="sees itself", smallest=9), True, 0.0
    )
    binary, grey = found.detail.split("; ")
    assert binary.startswith("512 images of 3 x 3 in 2 levels: ")
    assert grey.startswith("the net takes no 1 x 2 x 1: ")
    assert found.on == "untrained, 3 x 3 x 1"


def test_where_the_sum_does_not_apply():
    (found,) = enumeration.total_probability(toy.factory(), True, 8.0)
    why = "the model gives densities, not probabilities"
    assert tuple(found) == ("sum to one", "untrained", "n/a", why)
    (found,) = enumeration.total_probability(toy.factory(smallest=10), True, 0.0)
    assert (found.outcome, found.on) == ("n/a", "untrained")
    assert found.detail.startswith("the net takes no 3 x 3 x 1: ")
    factory = toy.factory()
    trained = ModelFactory(factory.config, factory.data, factory.at().state)
    (found,) = enumeration.total_probability(trained, False, 0.0)
    why = "the run's parameters belong to its own image size"
    assert tuple(found) == ("sum to one", "trained", "n/a", why)


def test_sums_without_probabilities_do_not_apply(monkeypatch):
    task = SimpleNamespace(
        log_prob=None, score_step=None, eval_step=lambda *_: {"loss": jnp.ones(())}
    )
    model = SimpleNamespace(task=task, title="untrained, here", state=0)
    monkeypatch.setattr(enumeration, "first_that_fits", lambda *_: (model, ""))
    monkeypatch.setattr(enumeration, "examples", lambda model, count: {})
    (found,) = enumeration.total_probability(ModelFactory(None, None), True, 0.0)
    why = "the task has no log_prob() and its sums no nll"
    assert tuple(found) == ("sum to one", "untrained, here", "n/a", why)


@pytest.mark.parametrize(
    ("task", "outcome", "detail"),
    [
        ({}, "pass", "512 images of 3 x 3 in 2 levels, estimated: "),
        ({"levels": 256}, "pass", "256 images of 1 x 1 in 256 levels, estimated: "),
        ({"fault": "biased"}, "FAIL", "512 images of 3 x 3 in 2 levels, estimated: 1.1"),
    ],
)
def test_estimated_probabilities_sum_to_one_within_their_error(task, outcome, detail, monkeypatch):
    monkeypatch.setattr(enumeration, "TRAINING_STEPS", 20)
    factory = toy.factory(estimated=True, **task)
    (found,) = enumeration.total_probability(factory, True, 0.0)
    assert (found.outcome, found.check) == (outcome, "sum to one")
    assert found.detail.startswith(detail)
    assert found.on == ("20 steps, 3 x 3 x 1" if task == {} else "20 steps, 1 x 1 x 1")


@pytest.mark.parametrize(("error", "outcome"), [(0.02, "pass"), (0.5, "FAIL")])
def test_an_estimate_with_a_large_error_says_nothing(error, outcome, monkeypatch):
    """Four repeats of 1 - error and 1 + error have that standard error, times 0.577."""
    repeats = np.log(1 + error * np.array([-1, 1, -1, 1]))
    monkeypatch.setattr(enumeration, "_estimates", lambda model, grid: -repeats[:, None])
    monkeypatch.setattr(enumeration, "first_that_fits", lambda *_: (None, "no smaller size"))
    model = SimpleNamespace(title="trained, here")
    found = enumeration._estimated(None, model, False)
    assert (found.outcome, found.on) == (outcome, "trained, here")
    expected = f"512 images of 3 x 3 in 2 levels, estimated: 1.0000 +- {error / 3**0.5:.4f}"
    assert found.detail == expected + ("" if outcome == "pass" else "; no smaller size")


def test_a_fresh_model_learns_images_of_the_grid():
    grid = Grid((2, 3, 1), (10, 100, 200))
    task = SimpleNamespace(
        init=lambda rng, batch: jnp.zeros((2, 3, 1)),
        train_step=lambda state, batch, rng: (state + batch["image"].mean(0), {}),
    )
    example = {"image": SimpleNamespace(shape=(2, 3, 1), dtype=np.dtype(np.uint8))}
    model = enumeration.AuditedModel(task, None, example, 1, "untrained, 2 x 3 x 1")
    learned = enumeration.trained_on(model, grid)
    assert learned.title == "200 steps, 2 x 3 x 1"
    probability = (np.asarray(learned.state) / 200 - 10) / 190  # of the highest level
    assert 0.19 < probability.min() < probability.max() < 0.81
    assert np.ptp(probability) > 0.1


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_the_bound_of_a_vae_is_audited_by_importance_samples(likelihood, monkeypatch):
    vae = toy.config()
    with vae.unlocked():
        vae.task = {
            "name": "jaxgen.vae:vae",
            "nll_samples": 300,
            "likelihood": {"name": f"jaxgen.likelihoods:{likelihood}"},
        }
        vae.model = {
            "encoder": {"name": "jaxgen.nets:MLPEncoder", "latents": 2, "widths": (8,)},
            "decoder": {"name": "jaxgen.nets:MLPDecoder", "widths": (8,)},
        }
        vae.optimizer.update({"name": "optax:adam", "learning_rate": 1e-2})
    factory = audit.of_config(vae)
    unit, offset = checks.units(factory.at())
    assert unit.outcome == "pass"
    assert offset == (8.0 if likelihood == "gaussian" else 0.0)
    if likelihood == "bernoulli":
        (found,) = enumeration.total_probability(factory, True, offset)
        assert found.outcome == "pass", found.detail
        assert found.detail.startswith("512 images of 3 x 3 in 2 levels, estimated")
