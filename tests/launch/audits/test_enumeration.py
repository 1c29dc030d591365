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
        ({"fault": "sees itself"}, {"sum to one": "FAIL"}),
        ({"fault": "too random"}, {"sum to one": "pass", "sampler": "FAIL"}),
        ({"fault": "too random", "means": True}, {"sum to one": "pass", "sampler": "FAIL"}),
    ],
)
def test_each_fault_of_probabilities_is_caught(task, expected):
    findings = enumeration.total_probability(toy.factory(**task), True, 0.0)
    assert toy.outcomes(findings) == expected, audit.table(findings)


@pytest.fixture
def exact(monkeypatch):
    """`_exact` with the sums of a table: {number of levels: a sum for each label}."""

    def fits(factory, shapes, untrained):
        (shape,) = shapes
        if shape in factory:
            return None, f"no {shape}"
        return SimpleNamespace(title=f"made {shape}", classes=3), ""

    def exact(sums, without=()):
        log = lambda model, grid, label: np.log([sums[len(grid.levels)][label and 1]])
        monkeypatch.setattr(enumeration, "first_that_fits", fits)
        monkeypatch.setattr(enumeration, "_log_probs", log)
        drawn = lambda model, grid, log: ("sampler", grid.title, float(np.exp(log[0])))
        monkeypatch.setattr(enumeration, "sampler", drawn)
        return enumeration._exact(without, SimpleNamespace(title="first", classes=3), True)

    return exact


def test_the_grid_whose_sum_is_one_is_sampled(exact):
    for levels, title in ((2, "512 images of 3 x 3"), (256, "65,536 images of 1 x 2")):
        sums = {2: (2.0, 2.0), 256: (9.0, 9.0)} | {levels: (1 + 9e-6, 1.0)}
        found, sampled = exact(sums)
        assert found.outcome == "pass"
        assert found.on == ("first" if levels == 2 else "made (1, 2, 1)")
        assert found.detail == f"{title} in {levels} levels: 1.0000090 (of 2 classes)"
        assert sampled == ("sampler", f"{title} in {levels} levels", pytest.approx(1 + 9e-6))


def test_a_sum_over_256_levels_leads_to_a_coarser_grid(exact):
    found, sampled = exact({2: (0.5, 0.5), 256: (256.0, 256.0), 16: (1.0, 1.0)})
    assert found.detail == "256 images of 1 x 2 in 16 levels: 1.0000000 (of 2 classes)"
    assert sampled[1] == "256 images of 1 x 2 in 16 levels"


def test_all_grids_that_were_tried_are_named_with_their_worst_sum(exact):
    (found,) = exact({2: (1.0, 0.25), 256: (np.inf, 1.0)})
    assert (found.check, found.on, found.outcome) == ("sum to one", "made (1, 2, 1)", "FAIL")
    assert found.detail == (
        "512 images of 3 x 3 in 2 levels: 0.2500000 (of 2 classes); "
        "65,536 images of 1 x 2 in 256 levels: inf (of 2 classes)"
    )
    (found,) = exact({2: (1.0, 1 + 2e-5)}, without=[(1, 2, 1)])
    assert (found.on, found.outcome) == ("first", "FAIL")
    assert found.detail.endswith("1.0000200 (of 2 classes); no (1, 2, 1)")


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


def test_estimated_probabilities_sum_to_one_within_their_error(monkeypatch):
    """Of a model of 256 levels, which the binary grid does not suit."""
    monkeypatch.setattr(enumeration, "TRAINING_STEPS", 20)
    factory = toy.factory(estimated=True, levels=256)
    (found,) = enumeration.total_probability(factory, True, 0.0)
    assert (found.outcome, found.check, found.on) == ("pass", "sum to one", "20 steps, 1 x 1 x 1")
    assert found.detail.startswith("256 images of 1 x 1 in 256 levels, estimated: ")


@pytest.mark.parametrize(
    ("total", "error", "outcome"),
    [
        (1.0, 0.02, "pass"),
        (1.0, 0.5, "FAIL"),  # an error so large says nothing
        (1.07, 0.02 * 3**0.5, "pass"),  # 3.5 standard errors
        (1.09, 0.02 * 3**0.5, "FAIL"),  # 4.5
        (1.000009, 0.0, "pass"),
        (1.00002, 0.0, "FAIL"),
    ],
)
def test_an_estimate_must_be_one_within_its_error(total, error, outcome, monkeypatch):
    """The standard error of four repeats, total -+ error, is error / sqrt(3)."""
    repeats = np.log(total + error * np.array([-1, 1, -1, 1]))
    monkeypatch.setattr(enumeration, "_estimates", lambda model, grid: -repeats[:, None])
    monkeypatch.setattr(enumeration, "first_that_fits", lambda *_: (None, "no smaller size"))
    model = SimpleNamespace(title="trained, here")
    found = enumeration._estimated(None, model, False)
    assert (found.outcome, found.on) == (outcome, "trained, here")
    expected = f"512 images of 3 x 3 in 2 levels, estimated: {total:.4f} +- {error / 3**0.5:.4f}"
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


def vae(likelihood):
    config = toy.config()
    with config.unlocked():
        config.task = {
            "name": "jaxgen.vae:vae",
            "nll_samples": 300,
            "likelihood": {"name": f"jaxgen.likelihoods:{likelihood}"},
        }
        config.model = {
            "encoder": {"name": "jaxgen.nets:MLPEncoder", "latents": 2, "widths": (8,)},
            "decoder": {"name": "jaxgen.nets:MLPDecoder", "widths": (8,)},
        }
        config.optimizer.update({"name": "optax:adam", "learning_rate": 1e-2})
    return audit.of_config(config)


def test_the_bound_of_a_vae_is_audited_by_importance_samples():
    (found,) = enumeration.total_probability(vae("bernoulli"), True, 0.0)
    assert found.outcome == "pass", found.detail
    assert found.detail.startswith("512 images of 3 x 3 in 2 levels, estimated")


def test_a_density_has_8_bits_more():
    unit, offset = checks.units(vae("gaussian").at())
    assert (unit.outcome, offset) == ("pass", 8.0)
