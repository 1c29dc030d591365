import jax
import numpy as np
from scipy.stats import norm

from jaxgen import flows
from jaxgen.flows.likelihoods import clean_of, negative_log_density
from tests.jaxgen.flows.small import KEY, SHAPE, far_from_zero, make_batch, make_task, model_of


def test_a_flow_that_leaves_noise_as_it_is_has_the_density_of_noise():
    task, batch = make_task(likelihood=flows.density(steps=2, probes=0)), make_batch()
    model = model_of(task)
    nll, square = negative_log_density(model, lambda z, t: z, batch, KEY)
    x = batch["image"] / 127.5 - 1
    expected = np.sum(0.5 * x**2 + 0.5 * np.log(2 * np.pi) - np.log(2), (1, 2, 3))
    np.testing.assert_allclose(nll, expected, rtol=0.02)
    np.testing.assert_allclose(square, np.mean(x**2, (1, 2, 3)), rtol=0.1, atol=0.01)


def test_the_evidence_compares_classes_by_the_same_noise():
    task, batch = make_task(classes=2), make_batch()
    state = far_from_zero(task, batch)
    batch["draw"] = np.full(8, 3, np.int32)
    evidence = jax.jit(task.evidence)
    first, second = (evidence(state, batch | {"label": np.full(8, n)}, KEY) for n in (0, 1))
    assert np.abs(first - second).max() > 1e-3
    some = {name: leaf[[5, 2]] for name, leaf in batch.items()} | {"label": np.zeros(2, int)}
    np.testing.assert_allclose(evidence(state, some, KEY), first[np.array([5, 2])], rtol=1e-4)
    assert make_task().evidence is None


def test_the_evidence_of_evenly_spread_draws_is_the_part_of_the_bound_that_they_cover():
    """For a net that gives x_hat = 0, and so errors |x|^2 at all times."""
    task, batch = make_task(classes=2), make_batch(4)
    state = jax.tree.map(np.zeros_like, task.init(KEY, batch))
    evidence, draws = jax.jit(task.evidence), 64
    found = [
        evidence(state, batch | {"draw": np.full(4, number, np.int32)}, KEY)
        for number in range(draws)
    ]
    # 1/2 of the integral of |x|^2 / sigma^2 over gamma = -log SNR = -2 logit(t), where logit(t) has
    # mean -0.8 and deviation 0.8, between its first and its last hundredth, by the same rule.
    starts = np.array([0, 1 / 2, 1 / 4, 3 / 4]) + np.arange(draws)[:, None] / draws
    logit = -0.8 + 0.8 * norm.ppf(0.01 + 0.98 * (starts % 1))
    of_gamma = norm.pdf(logit, -0.8, 0.8) / 2 / 0.98
    x = batch["image"] / 127.5 - 1
    expected = 0.5 * np.mean(np.exp(2 * logit) / of_gamma, 0) * np.sum(x**2, (1, 2, 3))
    np.testing.assert_allclose(np.mean(found, 0), -expected, rtol=1e-3)


def test_the_evidence_is_the_density_where_there_is_one():
    task, batch = make_task(classes=2, likelihood=flows.density(steps=3)), make_batch()
    state, label = far_from_zero(task, batch), {"label": np.ones(8, int)}
    found = jax.jit(task.evidence)(state, batch | label, KEY)
    model, params = model_of(task), state.params
    clean = clean_of(model, params, batch | label)
    np.testing.assert_allclose(found, -negative_log_density(model, clean, batch, KEY)[0], rtol=1e-3)


def test_images_go_to_noise_and_come_back():
    task, batch = make_task(likelihood=flows.density(steps=200)), make_batch(3)
    state = jax.tree.map(lambda leaf: 0.3 * leaf, far_from_zero(task, batch))
    x = np.random.default_rng(0).uniform(-1, 1, (3, *SHAPE)).astype(np.float32)
    log_p, noise = jax.jit(task.density, static_argnums=4)(state, x, batch, KEY, 0)
    assert log_p.shape == (3,)
    np.testing.assert_allclose(jax.jit(task.from_noise)(state, noise, batch), x, atol=0.02)
    assert make_task(levels=2, parametrisation=flows.binary()).density is None
