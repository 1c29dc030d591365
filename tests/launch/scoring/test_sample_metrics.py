"""Sets of images, measured by a small net with random weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.metrics import frechet
from launch.config import loading, schema
from launch.config.errors import UserError
from launch.data import batches
from launch.engine import experiments
from launch.scoring import features, nearest, sample_metrics

COUNT = 70


@pytest.fixture(scope="module")
def data(data_dir):
    config = schema.defaults()
    config.data.data_dir = data_dir
    return batches.open_data(config.data, "test")


@pytest.fixture(scope="module")
def net():
    """Four classes, by which quarter of the image is brightest; the features are its pixels."""

    def apply(params, images):
        quarters = images[..., 0].reshape(-1, 2, 4, 2, 4).mean((2, 4)).reshape(-1, 4)
        return images.reshape(len(images), -1)[:, params], quarters

    places = jnp.array([18, 20, 27, 36, 43, 45])
    return features.Features(apply, places, 6, 4, {"features": "pixels"})


@pytest.fixture(scope="module")
def assembled(data_dir, small_config, data):
    return experiments.build(small_config, data, training=False)


@pytest.fixture(scope="module")
def small_config(data_dir):
    config = loading.load("configs/vae.py")
    config.data.data_dir = data_dir
    config.model.encoder.widths = config.model.decoder.widths = (16,)
    return config


@pytest.fixture(scope="module")
def state(assembled):
    blank = batches.batch_spec(assembled.example, 8)
    return assembled.compiled.init(jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), blank))


def measured(net, assembled, data, batch_size=64, count=COUNT):
    extract = sample_metrics.extractor(net, assembled.mesh)
    return sample_metrics.measure(
        extract, sample_metrics.real(assembled, data, batch_size, count), count
    )


def test_what_is_kept_of_the_first_images(net, assembled, data):
    found = measured(net, assembled, data)
    images = data.arrays["image"][:COUNT]
    values, logits = net.apply(net.params, images / np.float32(255))
    np.testing.assert_array_equal(found.images, images)
    np.testing.assert_allclose(found.features, values, atol=1e-6)
    np.testing.assert_array_equal(found.classes, logits.argmax(1))
    mean, covariance = frechet.gaussian(found.sums)
    np.testing.assert_allclose(mean, np.mean(values, 0), rtol=1e-5)
    np.testing.assert_allclose(covariance, np.cov(values, rowvar=False), atol=1e-5)
    np.testing.assert_array_equal(found.sums["classes"], np.bincount(found.classes, minlength=4))


def test_scores_do_not_depend_on_the_batch_size(net, assembled, state, data):
    reference, results = measured(net, assembled, data), []
    extract = sample_metrics.extractor(net, assembled.mesh)
    for size in (16, 48):
        drawn = sample_metrics.sampled(assembled, state, 0, size, COUNT)
        found = sample_metrics.measure(extract, drawn, COUNT)
        assert found.features.shape == (COUNT, 6)
        results.append(sample_metrics.compare(net, reference, found))
    assert results[0] == pytest.approx(results[1], rel=1e-3, abs=1e-5)
    assert results[0].keys() == {
        "fid",
        "kid",
        "kid_standard_error",
        "precision",
        "recall",
        "density",
        "coverage",
        "ms_ssim",
        "feature_variance",
        "class_coverage",
        "least_class_share",
        "most_class_share",
    }


def test_the_monitor_gives_what_the_whole_comparison_gives(net, assembled, state, data):
    score = sample_metrics.monitor(assembled, data, net, 64, COUNT, 0)
    found = score(state)
    assert found.keys() == sample_metrics.monitored(net)
    extract = sample_metrics.extractor(net, assembled.mesh)
    drawn = sample_metrics.measure(
        extract, sample_metrics.sampled(assembled, state, 0, 64, COUNT), COUNT
    )
    reference = measured(net, assembled, data, count=data.split.size)
    whole = sample_metrics.compare(net, reference, drawn)
    assert found == pytest.approx({name: whole[name] for name in found}, rel=1e-5)
    nameless = net._replace(classes=0)
    assert sample_metrics.monitored(nameless) == {"fid", "feature_variance"}


def test_real_images_score_as_real(net, assembled, data):
    half = data.split.size // 2
    whole = measured(net, assembled, data, count=2 * half)
    extract = sample_metrics.extractor(net, assembled.mesh)
    images, mask = data.arrays["image"], np.ones(half, bool)
    parts = [[(images[part : part + half][:176], mask[:176])] for part in (0, half)]
    first, second = (sample_metrics.measure(extract, part, 176) for part in parts)
    found = sample_metrics.compare(net, first, second)
    assert abs(found["kid"]) < 4 * found["kid_standard_error"]
    assert found["precision"] > 0.7
    assert found["recall"] > 0.7
    assert found["coverage"] > 0.8
    assert found["feature_variance"] == pytest.approx(1, abs=0.2)
    same = sample_metrics.compare(net, whole, whole)
    assert same["fid"] == pytest.approx(0, abs=1e-9)
    assert same["coverage"] == 1
    assert same["density"] == pytest.approx(1, abs=0.02)  # grey levels give equal distances


def test_samples_are_rounded_to_levels_and_what_is_no_number_stays_none():
    images = jnp.array([0.0, 0.4 / 255, 0.6 / 255, 1.2, jnp.nan]).reshape(-1, 1, 1, 1)
    found = np.asarray(sample_metrics.levels(images)).ravel()
    np.testing.assert_allclose(found[:4], [0, 0, 1 / 255, 1], rtol=1e-6)
    assert np.isnan(found[4])


def test_one_image_over_and_over_is_not_diverse():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 8, 8, 1)).astype(np.uint8)
    classes = np.arange(20) % 2
    varied = sample_metrics.Measured({}, np.zeros((20, 1)), classes, images)
    assert sample_metrics.diversity(varied, 2) < 0.3
    assert sample_metrics.diversity(varied._replace(images=images[classes]), 2) == pytest.approx(1)
    assert sample_metrics.diversity(varied._replace(images=images[classes]), 0) < 0.99
    assert np.isnan(sample_metrics.diversity(varied._replace(images=images[:1]), 0))


def test_a_training_image_is_its_own_neighbour(net, assembled, data):
    extract = sample_metrics.extractor(net, assembled.mesh)
    images = data.arrays["image"][[5, 200, 300]]
    values = np.asarray(net.apply(net.params, images / np.float32(255))[0])
    feed = lambda: sample_metrics.real(assembled, data, 64, data.split.size)
    figure = nearest.figure(extract, images, values, feed())
    assert figure.shape == (3, 3, 8, 8, 1)
    np.testing.assert_array_equal(figure[0], images)
    np.testing.assert_array_equal(figure[1], images)
    found = np.asarray(net.apply(net.params, figure[2] / np.float32(255))[0])
    np.testing.assert_allclose(found, values, atol=1e-6)
    # Of a noisy copy, the pixels still know the original.
    noise = np.random.default_rng(0).integers(0, 12, images.shape)
    noisy = np.clip(images + noise, 0, 255).astype(np.uint8)
    figure = nearest.figure(extract, noisy, values, feed())
    np.testing.assert_array_equal(figure[1], images)


@pytest.mark.parametrize(
    ("count", "size", "message"),
    [
        (39, 6, "KID in 20 blocks needs at least 40 images; there are 39"),
        (100, 128, "FID in 128 features needs at least 129 images; there are 100"),
    ],
)
def test_too_few_images_are_refused(count, size, message):
    with pytest.raises(UserError, match=message):
        sample_metrics.check_counts({"--samples": count}, size)
    sample_metrics.check_counts({"--samples": 2049}, 2048)
