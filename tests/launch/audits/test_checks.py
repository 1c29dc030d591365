"""Each check notices the fault that is built into a task, and only that."""

import functools
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from launch.audits import checks
from launch.audits.fixtures import AuditedModel
from tests.launch.audits import toy


@functools.cache
def untrained():
    return toy.factory().at()


def faulty(fault):
    """The model of the task with a fault, with the same parameters as without one."""
    model, optimizer = untrained(), optax.sgd(1e-3)
    state = toy.State(model.state.params, optimizer.init(model.state.params))
    task = toy.autoregressive(optimizer, model.example, fault=fault)
    return model._replace(task=task, state=state)


@pytest.mark.parametrize(
    ("fault", "check", "message"),
    [
        ("sees itself", checks.causality, r"\(0, 0\) depends on \(0, 0\), slope .*; 12 such"),
        ("sees the end", checks.causality, r"\(0, 0\) depends on \(3, 2\), slope .*; 1 such"),
        ("rounded end", checks.causality, r"\(0, 0\) changes with the values from \(\d, \d\) on"),
        ("place in the batch", checks.by_seed, r"the same seed in another batch differs by 1"),
        ("one image", checks.by_seed, r"13 seeds give the same image"),
        ("means", checks.evaluation, r"within .* \(\['"),
        ("no number", checks.step, r"the same to the bit; its sums are not finite"),
        ("decimal digits", lambda model: checks.units(model)[0], r"nats = .* bits/dim"),
    ],
)
def test_each_fault_of_a_task_is_caught(fault, check, message):
    found = check(faulty(fault))
    assert found.outcome == checks.FAIL
    assert found.on == "untrained, 4 x 3 x 1"
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(found.detail)


def test_without_parameters_two_levels_are_one_bit():
    found, offset = checks.units(untrained())
    assert (found.outcome, offset) == (checks.PASS, 0.0)
    assert found.detail.endswith("; all parameters zero: 1.0000")
    assert " over 12 dimensions; -log_prob " in found.detail


def test_values_that_a_conditional_does_not_see_are_reported():
    found = checks.causality(faulty("blind"))
    assert found.outcome == checks.PASS
    expected = "of 66 earlier values 2 are never seen, such as (0, 0) by (1, 0)"
    assert found.detail == f"Jacobian 0 where it must be; {expected}"


def model(title="trained, 2 x 2 x 3", **functions):
    """A model of plain functions, of images 2 x 2 x 3."""
    parts = dict.fromkeys(("sample", "complete", "score_step", "log_prob", "conditionals"))
    task = SimpleNamespace(**parts | {"given": "image"} | functions)
    example = {"image": SimpleNamespace(shape=(2, 2, 3), dtype=np.dtype(np.uint8))}
    return AuditedModel(task, {"w": jnp.ones(2)}, example, 1, title)


def test_a_check_that_does_not_apply():
    found = checks.by_seed(model())
    assert (found.outcome, found.on) == (checks.NONE, "trained, 2 x 2 x 3")
    plain = model(eval_step=lambda *_: {"loss": jnp.ones(())}, finish=dict)
    found, offset = checks.units(plain)
    assert (found.outcome, offset) == (checks.NONE, 0.0)
    assert found.detail == "no metric is in bits per dimension"


@pytest.mark.parametrize(("size", "largest"), [(0.25, 1.0), (40.0, 20.0)])
def test_changes_are_relative_to_the_largest_value_and_at_least_to_one(size, largest):
    x, drawn = np.array([0.5, -0.25], np.float32), np.random.default_rng(0).uniform(-1, 1, (2, 2))
    found = checks._relative_changes(
        lambda x: size * jnp.asarray(x)[:, None], x, np.random.default_rng(0)
    )
    wanted = size * np.abs([[drawn[0, 0] - 0.5, drawn[0, 1] + 0.25], [0, drawn[1, 1] + 0.25]])
    np.testing.assert_allclose(found, wanted / largest, rtol=1e-5)


def test_a_place_names_its_channel_where_there_are_several():
    assert checks._place(7, (2, 2, 3)) == "(1, 0, 1)"
    assert checks._place(3, (2, 2, 1)) == "(1, 1)"


def test_images_made_from_given_ones_may_be_alike():
    """A reconstruction of one image is no fault; it depends on `given` and the seed."""

    def complete(state, batch, rng):
        assert set(batch) == {"image", "index", "label"}
        return batch["image"] * 0.0

    found = checks.by_seed(model(complete=complete))
    assert found.outcome == checks.PASS
    assert found.detail == "alone, among others, in another order: within 0.0e+00"


def test_a_small_dependence_on_the_batch_is_rounding_and_a_larger_one_is_not():
    def drift(size):
        def sample(state, batch, rng):
            seeds = batch["index"].astype(jnp.float32)
            return jnp.ones((2, 2, 3)) * (seeds + size * len(seeds))[:, None, None, None]

        return checks.by_seed(model(sample=sample)).outcome

    assert drift(3e-6) == checks.PASS  # 12 rows less: 3.6e-5
    assert drift(3e-5) == checks.FAIL


def test_sums_may_differ_by_rounding_relative_to_their_size():
    def add(error):
        def eval_step(state, batch, rng):
            total = jnp.sum(batch["mask"] * 1e4)
            return {"a": {"b": total + error * (len(batch["index"]) == 12)}}

        return checks.evaluation(model(eval_step=eval_step))

    assert add(2.0).outcome == checks.PASS  # of 120,000
    found = add(20.0)
    assert found.outcome == checks.FAIL
    assert found.detail.endswith("within 1.7e-04 (['a']['b'])")
    assert add(np.nan).outcome == checks.FAIL


def test_a_step_that_differs_is_caught():
    calls = iter(range(9))

    def train_step(state, batch, rng):
        return state, {"loss": jnp.ones(())}

    assert checks.step(model(train_step=train_step)).outcome == checks.PASS
    different = model(train_step=train_step)
    checks_jit, checks.jax.jit = checks.jax.jit, lambda f: lambda *_: ({}, {"a": next(calls)})
    try:
        found = checks.step(different)
    finally:
        checks.jax.jit = checks_jit
    assert (found.outcome, found.detail) == (checks.FAIL, "a step taken twice differs")


def units(finish, title="trained", **functions):
    """The check of units, of sums that are one hundred nats."""
    return checks.units(
        model(title, eval_step=lambda *_: {"nats": jnp.full((), 100.0)}, finish=finish, **functions)
    )


BITS = 100 / (12 * np.log(2))


@pytest.mark.parametrize(("added", "offset"), [(0, 0.0), (8, 8.0)])
def test_bits_are_nats_over_dimensions_and_a_density_has_8_more(added, offset):
    finish = lambda sums: {"loss": float(sums["nats"]), "bits_per_dim": BITS + added}
    found, known = units(finish)
    assert (found.outcome, known) == (checks.PASS, offset)
    told = f"loss 100 nats = {BITS + added:.5g} bits/dim over 12 dimensions"
    assert found.detail == told + (" + 8, a density" if added else "")


@pytest.mark.parametrize("added", [1, 8.001, 16, 2e-4])
def test_other_bits_are_wrong(added):
    finish = lambda sums: {"loss": float(sums["nats"]), "bits_per_dim": BITS + added}
    found, offset = units(finish)
    assert (found.outcome, offset) == (checks.FAIL, 0.0)


@pytest.mark.parametrize(("bits", "outcome"), [(BITS, checks.PASS), (BITS + 8, checks.FAIL)])
def test_all_metrics_in_bits_must_agree(bits, outcome):
    finish = lambda sums: {
        "nll": 100.0,
        "negative_elbo": 100.0,
        "bits_per_dim": BITS,
        "nll_bits_per_dim": bits,
        "kl_bits_per_dim": 5.0,  # no `kl` in nats beside it
    }
    found, _ = units(finish)
    assert found.outcome == outcome
    assert found.detail.startswith("negative_elbo 100 nats = ")
    assert "nll 100 nats = " in found.detail
    assert "kl" not in found.detail


@pytest.mark.parametrize(("nats", "outcome"), [(-100.009, "pass"), (-100.02, "FAIL")])
def test_nats_are_those_of_log_prob(nats, outcome):
    finish = lambda sums: {"loss": 7.0, "nll": 100.0, "nll_bits_per_dim": BITS}
    found, _ = units(finish, log_prob=lambda state, batch, rng: jnp.full(8, nats))
    assert found.outcome == outcome
    assert f"; -log_prob {-nats:.5g}" in found.detail


def test_a_thorough_evaluation_is_preferred():
    finish = lambda sums: {"loss": float(sums["nats"])}
    quick = model(eval_step=lambda *_: {"nats": jnp.ones(())}, finish=finish)
    batch = {"image": np.zeros((1, 2, 2, 3))}
    assert checks.evaluated(quick, batch) == {"loss": 1}
    quick.task.score_step = lambda *_: {"nats": jnp.zeros(())}
    assert checks.evaluated(quick, batch) == {"loss": 0}
