import jax
import numpy as np
import pytest

from jaxseg.inference import crf

dense_crf = crf.dense_crf


def scene(height, width, classes, noise=0.03, seed=0):
    """A patchwork of coloured tiles, and noisy probabilities of what each pixel is."""
    rng = np.random.default_rng(seed)
    tiles = rng.integers(0, classes, (4, 4))
    truth = np.kron(tiles, np.ones((height // 4, width // 4), int))
    image = rng.random((classes, 3))[truth] + rng.normal(0, noise, (height, width, 3))
    logits = np.eye(classes)[truth] + rng.normal(0, 1, (height, width, classes))
    probability = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return np.float32(np.clip(image, 0, 1)), np.float32(probability), truth


def mean_field(image, probability, iterations, weights, sigmas):
    """The paper's algorithm in plain numpy, over all pairs."""
    height, width, classes = probability.shape
    place = np.stack(np.indices((height, width)), -1).reshape(-1, 2).astype(float)
    colour = image.reshape(len(place), -1).astype(float)
    kernels = []
    for weight, points in zip(
        weights,
        (np.hstack([place / sigmas[0], colour / sigmas[1]]), place / sigmas[2]),
        strict=True,
    ):
        kernel = np.exp(-0.5 * ((points[:, None] - points[None]) ** 2).sum(-1))
        degree = kernel.sum(1)
        kernels.append(weight * kernel / np.sqrt(degree[:, None] * degree[None]))
    p = probability.reshape(-1, classes).astype(float)
    q = p
    for _ in range(iterations):
        message = sum(kernel @ q for kernel in kernels)
        compatibility = message.sum(1, keepdims=True) - message  # Potts: all other labels
        q = p * np.exp(-compatibility)
        q /= q.sum(1, keepdims=True)
    return q.reshape(probability.shape)


def test_exact_inference_is_the_papers_algorithm():
    image, probability, _ = scene(8, 12, 3, noise=0.2)
    found = dense_crf(
        image, probability, 3, 2.0, place_sigma=4.0, colour_sigma=0.3, smoothness=1.0, exact=True
    )
    expected = mean_field(image, probability, 3, (2.0, 1.0), (4.0, 0.3, 3.0))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_defaults_are_weak():
    image, probability, _ = scene(8, 12, 3, noise=0.02)
    found = dense_crf(image, probability, exact=True)
    expected = mean_field(image, probability, 5, (1.0, 0.5), (40.0, 0.05, 3.0))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_bilateral_grid_may_fill_half_a_gigabyte():
    image, probability = np.zeros((1, 1, 2), np.float32), np.zeros((1, 1, 2), np.float32)
    run = lambda cells: jax.eval_shape(
        lambda *arrays: dense_crf(*arrays, colour_sigma=1 / (cells - 1.5)), image, probability
    )
    assert run(2**12).shape == (1, 1, 2)  # 2 x 2 x 4096 x 4096 cells of two classes
    with pytest.raises(ValueError, match="2 x 2 x 4097 x 4097 cells"):
        run(2**12 + 1)


def test_images_of_one_size_are_one_compilation():
    before = dense_crf._cache_size()
    for seed in (0, 1):
        image, probability, _ = scene(8, 20, 3, seed=seed)
        dense_crf(image, probability)
    assert dense_crf._cache_size() == before + 1


def test_the_fast_filter_is_close_to_the_sum_over_all_pairs():
    image, _, _ = scene(24, 32, 3, noise=0.1)
    values = np.float32(np.random.default_rng(1).random((24, 32, 2)))
    size = crf.grid_size(image.shape, 8.0, 0.2)

    @jax.jit
    def both(image, values):
        points = crf.features(image, 8.0, 0.2)
        kernels = crf.bilateral_filter(points, size), crf.exact_filter(points)
        return [crf.normalised(kernel, (24, 32, 1))(values) for kernel in kernels]

    fast, exact = map(np.asarray, both(image, values))
    assert np.abs(fast - exact).max() < 0.2 * exact.mean()
    assert np.abs(fast - exact).mean() < 0.04 * exact.mean()


def test_fast_inference_agrees_with_exact_inference():
    image, probability, truth = scene(24, 32, 4, noise=0.1)
    fast, exact = (
        np.asarray(dense_crf(image, probability, 5, 10.0, 8.0, 0.1, 3.0, exact=exact))
        for exact in (False, True)
    )
    assert np.abs(fast - exact).mean() < 1e-3
    assert (fast.argmax(-1) == exact.argmax(-1)).mean() > 0.99
    assert (probability.argmax(-1) == truth).mean() < 0.6
    assert (fast.argmax(-1) == truth).mean() > 0.95


def test_without_weights_nothing_changes():
    image, probability, _ = scene(24, 32, 4)
    found = dense_crf(image, probability * 3.0, 5, 0.0, 8.0, 0.1, 0.0, exact=False)
    np.testing.assert_allclose(found, probability, atol=1e-6)


def test_one_iteration_over_a_constant_image_by_hand():
    # Two pixels of one colour at distance 1: kernels are [[1, k], [k, 1]] / (1 + k).
    probability = np.float32([[[0.9, 0.1], [0.4, 0.6]]])
    found = dense_crf(
        np.zeros((1, 2, 3), np.float32), probability, 1, 1.0, 1.0, 0.1, 0.0, exact=True
    )
    k = np.exp(-0.5)
    first = 0.9 * np.exp((0.9 + k * 0.4) / (1 + k)), 0.1 * np.exp((0.1 + k * 0.6) / (1 + k))
    np.testing.assert_allclose(found[0, 0], np.array(first) / sum(first), rtol=1e-5)


def test_a_little_noise_goes_with_the_defaults():
    image, probability, truth = scene(24, 32, 4)
    before = (probability.argmax(-1) == truth).mean()
    assert (dense_crf(image, probability).argmax(-1) == truth).mean() > before + 0.1


@pytest.mark.parametrize("shape", [(1, 1, 3), (17, 61, 1)])
def test_odd_sizes_nan_and_certainty_stay_finite(shape):
    image = np.full(shape, np.nan, np.float32)
    probability = np.zeros((*shape[:2], 3), np.float32)
    probability[..., 1] = 1.0
    found = dense_crf(image, probability)
    np.testing.assert_allclose(found, probability, atol=1e-6)


def test_it_is_differentiable():
    image, probability, truth = scene(8, 12, 3)

    def loss(appearance, probability):
        q = crf.dense_crf(image, probability, 2, appearance, 4.0, 0.3)
        return (
            -np.float32(1 / truth.size)
            * jax.numpy.log(jax.numpy.take_along_axis(q, truth[..., None], -1)).sum()
        )

    value_and_grad = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
    (below, _), (_, (slope, toward)), (above, _) = (
        value_and_grad(weight, probability) for weight in (1.95, 2.0, 2.05)
    )
    np.testing.assert_allclose(slope, (above - below) / 0.1, rtol=0.02)
    assert np.isfinite(toward).all()
    assert np.abs(toward).max() > 0


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="one size"):
        crf.dense_crf(np.zeros((4, 5, 3)), np.zeros((5, 4, 2)))
    with pytest.raises(ValueError, match="raise place_sigma or colour_sigma"):
        crf.dense_crf(np.zeros((64, 64, 3)), np.zeros((64, 64, 20)), colour_sigma=0.005)
