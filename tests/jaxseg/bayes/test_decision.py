import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage, stats

from jaxseg.bayes import decision


def masks(seed=0, count=3, shape=(24, 36), classes=3):
    labels = np.random.default_rng(seed).integers(0, classes, (count, *shape))
    labels[:, : shape[0] // 3] = 0
    labels[0, -2:] = 255
    return labels


count = jax.jit(decision.prior_sums, static_argnums=(1, 2))


def summed(labels, grid=(1, 1)):
    return sum(np.asarray(count(one, 3, grid)) for one in labels)


def test_counts_are_those_of_each_cell():
    labels = masks()
    found = summed(labels, grid=(4, 6))
    tiles = labels.reshape(3, 4, 6, 6, 6)
    for number in range(3):
        np.testing.assert_array_equal(found[..., number], (tiles == number).sum((0, 2, 4)))


@pytest.mark.parametrize("shape", [(1, 1), (17, 301)])
def test_any_size_is_counted_once(shape):
    assert float(count(np.ones(shape, int), 3, (5, 7)).sum()) == np.prod(shape)


def test_one_cell_is_the_frequency_of_each_class():
    labels = masks()
    found = np.asarray(decision.log_prior(summed(labels), (5, 4)))
    frequencies = np.bincount(labels[labels != 255], minlength=3) / (labels != 255).sum()
    np.testing.assert_allclose(np.exp(found), np.broadcast_to(frequencies, (5, 4, 3)), rtol=1e-5)
    np.testing.assert_array_equal(decision.prior_sums(labels[0], 3), count(labels[0], 3, (1, 1)))


@pytest.mark.parametrize(
    ("options", "sigma", "smoothing"),
    [
        ({"sigma": 1.5, "smoothing": 0.1}, 1.5, 0.1),
        ({}, 1.0, 0.01),
        ({"sigma": 0.0, "smoothing": 0.2}, 0.0, 0.2),
    ],
)
def test_the_map_is_smoothed_counts_with_a_little_of_the_whole(options, sigma, smoothing):
    sums = summed(masks(), grid=(24, 36))
    found = decision.log_prior(sums, (24, 36), **options)
    near = ndimage.gaussian_filter(sums, (sigma, sigma, 0))
    near = near + smoothing * sums.sum((0, 1)) / (24 * 36)
    expected = near / near.sum(-1, keepdims=True)
    np.testing.assert_allclose(np.exp(found), expected, atol=1e-4)


def test_a_prior_sums_to_one_at_any_size_and_an_unseen_class_has_none():
    sums = summed(masks(classes=2), grid=(4, 6))
    found = np.exp(decision.log_prior(sums, (17, 31)))
    np.testing.assert_allclose(found.sum(-1), 1.0, rtol=1e-5)
    assert (found[..., 2] == 0).all()
    assert found[0, :, 0].mean() > 0.8  # the upper third is class 0


@pytest.mark.parametrize("wrong", [3, -1, 254])
def test_a_mistaken_id_is_refused(wrong):
    labels = masks()
    labels[1, 2, 3] = wrong
    with pytest.raises(ValueError, match="neither a class"):
        decision.log_prior(summed(labels), (24, 36))


def test_masks_without_a_class_are_refused():
    with pytest.raises(ValueError, match="no pixel"):
        decision.log_prior(summed(np.full((1, 24, 36), 255)), (24, 36))


def test_map_decision_by_hand():
    likelihood = jnp.log(jnp.array([[0.5, 0.1, 0.4], [0.2, 0.2, 0.2]]))
    prior = jnp.log(jnp.array([0.2, 0.5, 0.3]))
    assert decision.map_decision(likelihood, prior).tolist() == [2, 1]  # .10 .05 .12; the prior
    np.testing.assert_allclose(
        decision.posterior(likelihood, prior),
        [[10 / 27, 5 / 27, 12 / 27], [0.2, 0.5, 0.3]],
        rtol=1e-6,
    )


logits = hnp.arrays(np.float32, (2, 3, 4), elements=st.floats(-30, 30, width=32))


@given(logits, logits, st.floats(-5, 5))
def test_the_decision_is_the_posteriors_maximum_whatever_the_scale(likelihood, prior, scale):
    posterior = decision.posterior(likelihood, prior)
    np.testing.assert_allclose(posterior.sum(-1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(decision.posterior(likelihood + scale, prior), posterior, atol=1e-4)
    chosen = decision.map_decision(likelihood, prior)[..., None]
    np.testing.assert_allclose(
        jnp.take_along_axis(posterior, chosen, -1)[..., 0], posterior.max(-1), rtol=1e-6
    )


def test_no_rule_errs_less_than_the_map_decision():
    # Two normal classes with frequencies 0.8 and 0.2: the rate is that of Bayes, known exactly.
    rng = np.random.default_rng(0)
    truth = rng.random(200_000) < 0.2
    x = rng.normal(np.where(truth, 1.0, -1.0), 1.0)
    likelihood = np.stack([stats.norm.logpdf(x, -1), stats.norm.logpdf(x, 1)], -1)
    wrong = np.asarray(jax.jit(decision.map_decision)(likelihood, np.log([0.8, 0.2]))) != truth
    edge = np.log(4.0) / 2
    expected = 0.8 * stats.norm.sf(edge, -1) + 0.2 * stats.norm.cdf(edge, 1)
    assert np.mean(wrong) == pytest.approx(expected, abs=0.003)
