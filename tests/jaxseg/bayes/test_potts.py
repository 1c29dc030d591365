from itertools import product

import jax
import numpy as np
import pytest

from jaxseg.bayes import potts

soft_labels = jax.jit(potts.soft_labels, static_argnums=(1, 2))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("border", [0.3, 1.0])
def test_on_a_chain_it_is_the_exact_minimum(seed, border):
    """There the relaxation is tight, and all labellings can be tried."""
    energies = np.random.default_rng(seed).exponential(size=(1, 7, 3)).astype(np.float32)

    def energy(labels):
        labels = np.asarray(labels)
        return energies[0, np.arange(7), labels].sum() + border * (np.diff(labels) != 0).sum()

    best = min(energy(labels) for labels in product(range(3), repeat=7))
    found = np.asarray(soft_labels(energies, border, 2000))
    assert energy(found.argmax(-1)[0]) == pytest.approx(best, abs=1e-3)
    relaxed = (found * energies).sum() + border / 2 * np.abs(np.diff(found, axis=1)).sum()
    assert relaxed == pytest.approx(best, abs=0.02)


def test_soft_labels_are_weights_that_sum_to_one():
    energies = 3 * np.random.default_rng(0).normal(size=(8, 9, 4)).astype(np.float32)
    found = np.asarray(soft_labels(energies, 0.5, 100))
    assert found.min() >= 0
    np.testing.assert_allclose(found.sum(-1), 1.0, atol=1e-5)
    default = jax.jit(lambda energies: potts.soft_labels(energies, 0.5))(energies)
    np.testing.assert_array_equal(default, found)  # of a hundred iterations
    assert np.abs(found - soft_labels(energies, 0.5, 101)).max() > 0


def test_free_borders_give_the_best_label_everywhere():
    energies = np.random.default_rng(0).normal(size=(8, 9, 4)).astype(np.float32)
    found = np.asarray(soft_labels(energies, 0.0, 300))
    np.testing.assert_array_equal(found.argmax(-1), energies.argmin(-1))


def test_a_border_is_straightened_and_specks_removed():
    left = np.zeros((16, 16), np.float32)
    left[:, 8:] = 1
    noisy = left.copy()
    noisy[4, 4], noisy[10, 12] = 1, 0
    energies = np.stack([noisy, 1 - noisy], -1)
    np.testing.assert_array_equal(np.asarray(soft_labels(energies, 1.0, 100)).argmax(-1), left)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 3), (1, 5, 2)])
def test_the_smallest_images(shape):
    found = soft_labels(np.zeros(shape, np.float32), 1.0, 10)
    np.testing.assert_allclose(found, 1 / shape[-1], atol=1e-5)
