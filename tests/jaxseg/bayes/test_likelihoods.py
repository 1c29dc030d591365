import warnings

import jax
import numpy as np
import pytest
from scipy import stats
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.naive_bayes import GaussianNB

from jaxseg.bayes import likelihoods, normal_densities

CLASSES, IGNORE = 3, 255


def compiled(make):
    """A maker of likelihoods whose log_prob is compiled as a whole."""

    def make_compiled(*args, **kwargs):
        model = make(*args, **kwargs)
        return model._replace(log_prob=jax.jit(model.log_prob))

    return make_compiled


histogram = compiled(likelihoods.histogram)
gaussian = compiled(likelihoods.gaussian)
mixture = compiled(likelihoods.mixture)


@pytest.fixture(scope="module")
def pixels():
    """Features [4, 30, 20, 2] in about [0, 1] and labels [4, 30, 20] of two-part classes."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, (4, 30, 20))
    part = rng.integers(0, 2, labels.shape)
    centres = np.array(
        [[[0.2, 0.3], [0.8, 0.4]], [[0.5, 0.6], [0.4, 0.1]], [[0.3, 0.9], [0.7, 0.8]]]
    )
    features = centres[labels, part] + rng.normal(0, 0.05, (*labels.shape, 2))
    features[..., 1] += 0.4 * (features[..., 0] - 0.5)
    labels[0, :5] = IGNORE
    return np.float32(features), np.int32(labels)


def one_by_one(features, labels):
    return lambda: zip(features, labels, strict=True)


def of_class(pixels, number):
    features, labels = pixels
    return np.float64(features[labels == number])


@pytest.mark.parametrize(("bins", "smoothing"), [(1, 1.0), (4, 0.5)])
def test_histogram_is_the_smoothed_share_of_each_cell(bins, smoothing):
    rng = np.random.default_rng(0)
    features = np.float32(rng.uniform(-0.1, 1.1, (30, 20, 2)))
    labels = np.where(rng.random((30, 20)) < 0.2, IGNORE, rng.integers(0, 2, (30, 20)))
    model = histogram(2, bins, smoothing)
    found = model.log_prob(likelihoods.fit(model, lambda: [(features, labels)]), features)
    edges = np.linspace(0, 1, bins + 1)
    for number in range(2):
        counts = np.histogramdd(np.clip(features[labels == number], 0, 1), [edges, edges])[0]
        share = (counts + smoothing) / (counts.sum() + smoothing * bins**2)
        cell = np.clip(np.floor(features * bins), 0, bins - 1).astype(int)
        np.testing.assert_allclose(
            found[..., number], np.log(share[cell[..., 0], cell[..., 1]]), rtol=1e-5
        )


def test_gaussian_is_that_of_scipy(pixels):
    model = gaussian(CLASSES, regularisation=1e-3)
    found = model.log_prob(likelihoods.fit(model, one_by_one(*pixels)), pixels[0])
    for number in range(CLASSES):
        own = of_class(pixels, number)
        covariance = np.cov(own.T, bias=True) + 1e-3 * np.eye(2)
        expected = stats.multivariate_normal(own.mean(0), covariance).logpdf(pixels[0])
        np.testing.assert_allclose(found[..., number], expected, rtol=1e-3, atol=1e-3)


def test_one_feature_and_the_class_frequencies_are_gaussian_naive_bayes(pixels):
    features, labels = pixels[0][1:, ..., :1], pixels[1][1:]
    flat, known = features.reshape(-1, 1), labels.ravel()
    reference = GaussianNB(var_smoothing=0).fit(np.float64(flat), known)
    model = gaussian(CLASSES, regularisation=1e-9)
    found = model.log_prob(likelihoods.fit(model, one_by_one(features, labels)), flat)
    posterior = jax.nn.softmax(found + np.log(reference.class_prior_)[None], axis=-1)
    np.testing.assert_allclose(posterior, reference.predict_proba(flat), atol=1e-4)


@pytest.mark.parametrize("steps", [1, 20])
def test_mixture_is_em_of_sklearn_from_the_same_start(pixels, steps):
    model = mixture(CLASSES, components=2, steps=steps, regularisation=1e-4)
    params = likelihoods.fit(model, one_by_one(*pixels))
    found = model.log_prob(params, pixels[0].reshape(-1, 2))
    for number in range(CLASSES):
        own = of_class(pixels, number)
        weight, mean, covariance = normal_densities.split(
            own.mean(0)[None, None], np.cov(own.T, bias=True)[None, None] + 1e-4 * np.eye(2), 2
        )
        reference = GaussianMixture(
            2,
            tol=0,
            max_iter=steps,
            reg_covar=1e-4,
            weights_init=weight[0],
            means_init=mean[0],
            precisions_init=np.linalg.inv(covariance[0]),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            reference.fit(own)
        # The direction of an axis is up to its sign, and so is the order of the parts.
        expected = reference.score_samples(pixels[0].reshape(-1, 2))
        np.testing.assert_allclose(found[:, number], expected, rtol=2e-3, atol=0.02)


def test_mixture_of_two_parts_beats_one_gaussian(pixels):
    def mean_log_likelihood(model):
        found = model.log_prob(likelihoods.fit(model, one_by_one(*pixels)), pixels[0][1:])
        return np.take_along_axis(np.asarray(found), pixels[1][1:, ..., None], -1).mean()

    one, two = gaussian(CLASSES), mixture(CLASSES, 2, steps=20)
    assert mean_log_likelihood(two) > mean_log_likelihood(one) + 0.3


@pytest.mark.parametrize(
    "model",
    [
        histogram(CLASSES),
        gaussian(CLASSES),
        mixture(CLASSES, 2),
    ],
    ids=["histogram", "gaussian", "mixture"],
)
class TestEvery:
    def test_sums_add_up_over_images(self, model, pixels):
        split = likelihoods.fit(model, one_by_one(*pixels))
        whole = likelihoods.fit(model, lambda: [pixels])
        # An axis found anew may point the other way, which exchanges the parts.
        np.testing.assert_allclose(
            model.log_prob(split, pixels[0]), model.log_prob(whole, pixels[0]), rtol=1e-3, atol=5e-3
        )

    @pytest.mark.parametrize("wrong", [CLASSES, -1, 254])
    def test_a_mistaken_id_is_refused(self, model, pixels, wrong):
        labels = pixels[1].copy()
        labels[2, 3, 4] = wrong
        with pytest.raises(ValueError, match="neither a class"):
            likelihoods.fit(model, one_by_one(pixels[0], labels))

    def test_ignored_and_unknown_pixels_do_not_count(self, model, pixels):
        features, labels = pixels[0].copy(), pixels[1]
        expected = likelihoods.fit(model, one_by_one(*pixels))
        features[labels == IGNORE] = 0.77
        found = likelihoods.fit(model, one_by_one(features, labels))
        jax.tree.map(np.testing.assert_array_equal, found, expected)
        unknown = features.copy()
        unknown[labels == IGNORE, 1] = np.nan
        found = likelihoods.fit(model, one_by_one(unknown, np.where(labels == IGNORE, 0, labels)))
        jax.tree.map(np.testing.assert_array_equal, found, expected)
        prob = np.asarray(model.log_prob(found, unknown))
        assert np.isfinite(prob).all()
        assert (prob[labels == IGNORE] == 0).all()

    def test_constant_images_and_absent_classes_stay_finite(self, model, pixels):
        features, labels = np.full((5, 4, 3), 0.5, np.float32), np.ones((5, 4), np.int32)
        params = likelihoods.fit(model, lambda: [(features, labels)])
        assert np.isfinite(model.log_prob(params, np.float32([[0.5, 0.5, 0.5], [0, 1, 0]]))).all()

    def test_nothing_to_fit_is_refused(self, model, pixels):
        with pytest.raises(ValueError, match="nothing to fit"):
            likelihoods.fit(model, lambda: [])


def test_a_histogram_by_default_has_sixteen_bins_and_counts_one_more():
    model = histogram(2)
    features = np.float32([[0.0], [0.99], [0.99]])
    params = likelihoods.fit(model, lambda: [(features, np.array([0, 1, 255]))])
    expected = np.log(np.ones((2, 16)) / 17)
    expected[0, 0] = expected[1, 15] = np.log(2 / 17)
    np.testing.assert_allclose(params, expected, rtol=1e-6)
    assert model.passes == 1


def test_the_defaults_of_normal_densities():
    # Constant features: the variance is the regularisation alone, of a hundredth squared.
    data = lambda: [(np.full((3, 1), 0.5, np.float32), np.array([0, 0, 1]))]
    one = gaussian(2)
    found = one.log_prob(likelihoods.fit(one, data), np.float32([[0.5], [0.51]]))
    peak = -np.log(0.01 * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(found, [[peak, peak], [peak - 0.5, peak - 0.5]], rtol=1e-3)
    several = mixture(2)
    sums = {"count": np.array([[2.0], [1]]), "first": np.array([[[1.0]], [[0.5]]])}
    params = several.fit(sums | {"second": np.array([[[0.5]], [[0.25]]])})
    assert params["mean"].shape == (2, 4, 1)
    np.testing.assert_allclose(params["whiten"], 100, rtol=1e-4)
    assert (one.passes, several.passes) == (1, 11)  # one before ten steps of EM


def test_a_histogram_may_fill_half_a_gigabyte():
    features, ids = np.zeros((1, 2), np.float32), np.zeros(1, int)
    counts = lambda bins: jax.eval_shape(histogram(2, bins).sums, None, features, ids)
    assert counts(2**13).size == 2**27
    with pytest.raises(ValueError, match="fewer bins"):
        counts(2**13 + 1)


def test_options_that_cannot_be_meant():
    with pytest.raises(ValueError, match="bins"):
        histogram(3, bins=0)
    with pytest.raises(ValueError, match="smoothing"):
        histogram(3, smoothing=0.0)
    with pytest.raises(ValueError, match="regularisation"):
        gaussian(3, regularisation=0.0)
    with pytest.raises(ValueError, match="components"):
        mixture(3, components=0)
    with pytest.raises(ValueError, match="steps"):
        mixture(3, components=2, steps=0)
    with pytest.raises(ValueError, match="fewer bins"):
        histogram(3, bins=64).sums(None, np.zeros((1, 6)), np.zeros(1, int))
    with pytest.raises(ValueError, match="nothing to fit"):
        likelihoods.fit(gaussian(2), lambda: [(np.zeros((2, 2, 1)), np.full((2, 2), IGNORE))])
