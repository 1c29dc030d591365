"""The training images nearest to samples, by pixels and by features."""

import numpy as np

from launch.scoring import image_sets, nearest, reals, sample_metrics
from tests.launch.scoring import stand_ins


def test_the_nearest_of_all_batches_by_pixels_and_by_features():
    data, experiment, net = stand_ins.open_images(), stand_ins.experiment(), stand_ins.quarters()
    images = data.arrays["image"]
    pixels = images.reshape(len(images), -1).astype(float)
    known = pixels[:, np.asarray(net.params)]
    rng = np.random.default_rng(0)
    samples = rng.integers(0, 256, (5, 8, 8, 1)).astype(np.uint8)
    samples[0] = images[70]
    features = rng.uniform(0, 1, (5, 6)).astype(np.float32)
    features[0] = known[3] / 255
    extract = sample_metrics.make_extractor(net, experiment.mesh)
    batches = lambda: image_sets.real_images(experiment, data, 32, data.split.size)
    training = reals.TrainingImages(extract, batches)
    queries = rng.uniform(0, 1, (40, 6)).astype(np.float32)
    figure, apart = nearest.nearest_training_images(samples, features, training, queries)
    expected = np.linalg.norm(queries[:, None] - known / 255, axis=-1).min(1)
    np.testing.assert_allclose(apart, expected, rtol=1e-4)
    by_pixels = np.linalg.norm(samples.reshape(5, 1, -1) - pixels, axis=-1).argmin(1)
    by_features = np.linalg.norm(255 * features[:, None] - known, axis=-1).argmin(1)
    assert (by_pixels[0], by_features[0]) == (70, 3)
    assert {n // 32 for n in (*by_pixels, *by_features)} == {0, 1, 2}  # of every batch
    np.testing.assert_array_equal(figure, [samples, images[by_pixels], images[by_features]])
    assert figure.dtype == np.uint8


def test_of_training_images_that_are_equally_near_the_first_is_shown():
    """Five differ from the sample by two levels of a pixel, all others by one of another."""
    sample = np.random.default_rng(1).integers(0, 254, (8, 8, 1)).astype(np.uint8)
    images = np.repeat(sample[None], 64, 0)
    images.reshape(64, -1)[np.arange(64), np.arange(64)] += np.uint8(1 + (np.arange(64) < 5))
    features = 3000.1 + np.float64(images.reshape(64, -1))[:, ::-1]
    queries = 3000.1 + np.float64(sample.reshape(1, -1))[:, ::-1]
    several = sample[None], queries, [(images, features)] * 2, queries
    figure, _ = nearest.nearest_training_images(*several)
    np.testing.assert_array_equal(figure[:, 0], [sample, images[5], images[5]])
