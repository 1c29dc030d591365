"""Sets of images, scored by a net whose features are six pixels."""

import logging
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.metrics import frechet, kernel_distance, neighbours, ssim
from launch.config.errors import UserError
from launch.scoring import image_sets, sample_metrics
from tests.launch.scoring import stand_ins

COUNT = 70
SCORES = {
    *("fid", "kid", "kid_standard_error", "precision", "recall", "density", "coverage"),
    *("ms_ssim", "feature_variance"),
}
SPREAD = {"class_coverage", "least_class_share", "most_class_share"}


@pytest.fixture(scope="module")
def data():
    return stand_ins.open_images()


@pytest.fixture(scope="module")
def net():
    return stand_ins.quarters()


@pytest.fixture(scope="module")
def experiment():
    return stand_ins.experiment(sample=stand_ins.sample)


@pytest.fixture(scope="module")
def extract(net, experiment):
    return sample_metrics.make_extractor(net, experiment.mesh)


@pytest.fixture(scope="module")
def real(extract, experiment, data):
    images = image_sets.real_images(experiment, data, 35, COUNT)
    return sample_metrics.measure(extract, images, COUNT)


@pytest.fixture(scope="module")
def samples(extract, experiment):
    images = image_sets.sampled_images(experiment, 0, 0, 35, COUNT)
    return sample_metrics.measure(extract, images, COUNT)


def test_the_first_images_are_kept_with_their_features_and_classes(net, real, data):
    images = data.arrays["image"][:COUNT]
    values, logits = net.apply(net.params, images / np.float32(255))
    np.testing.assert_array_equal(real.images, images)
    np.testing.assert_allclose(real.features, values, atol=1e-6)
    np.testing.assert_array_equal(real.classes, logits.argmax(1))
    mean, covariance = frechet.gaussian(real.sums)
    np.testing.assert_allclose(mean, np.mean(values, 0), rtol=1e-5)
    np.testing.assert_allclose(covariance, np.cov(values, rowvar=False), atol=1e-5)
    np.testing.assert_array_equal(real.sums["classes"], np.bincount(real.classes, minlength=4))


def test_only_so_many_images_are_kept_themselves(extract, experiment, data, monkeypatch):
    monkeypatch.setattr(sample_metrics, "KEPT_IMAGES", 40)
    images = image_sets.real_images(experiment, data, 35, COUNT)
    measured = sample_metrics.measure(extract, images, COUNT)
    np.testing.assert_array_equal(measured.images, data.arrays["image"][:40])
    assert measured.features.shape == (COUNT, 6)


def test_the_scores_are_those_of_jaxgen(net, real, samples):
    scores = sample_metrics.compare(real, samples, net.classes, seed=3)
    assert scores.keys() == SCORES | SPREAD
    kid = kernel_distance.kernel_distance(real.features, samples.features, 3)
    assert (scores["kid"], scores["kid_standard_error"]) == (kid.value, kid.standard_error)
    assert scores["fid"] == frechet.fid(samples.sums, real.sums) > 0
    known = neighbours.precision_recall(real.features, samples.features)
    assert known.items() <= scores.items()
    assert known["precision"] != known["recall"]  # so that the two sets cannot be swapped
    variance = np.var(samples.features, axis=0).sum() / np.var(real.features, axis=0).sum()
    assert scores["feature_variance"] == pytest.approx(variance, rel=1e-4)
    share = np.bincount(samples.classes, minlength=4) / COUNT
    assert scores["most_class_share"] == pytest.approx(share.max())
    assert sample_metrics.compare(real, samples).keys() == SCORES


def test_scores_do_not_depend_on_the_batch_size(extract, experiment, samples):
    images = image_sets.sampled_images(experiment, 0, 0, 16, COUNT)
    other = sample_metrics.measure(extract, images, COUNT)
    np.testing.assert_array_equal(other.images, samples.images)
    np.testing.assert_allclose(other.features, samples.features, atol=1e-6)
    assert frechet.fid(other.sums, samples.sums) == pytest.approx(0, abs=1e-6)


def test_a_set_against_itself_is_perfect(real):
    scores = sample_metrics.compare(real, real)
    assert scores["fid"] == pytest.approx(0, abs=1e-9)
    assert scores["coverage"] == scores["feature_variance"] == 1
    assert scores["density"] == pytest.approx(1, abs=0.02)  # grey levels give equal distances


def test_the_monitor_gives_what_the_whole_comparison_gives(net, experiment, data, samples, extract):
    monitor = sample_metrics.make_monitor(experiment, data, net, 35, COUNT)
    scores = monitor.scores(0)
    assert monitor.names == scores.keys()
    assert (
        scores.keys() == sample_metrics.monitor_names(net) == {"fid", "feature_variance"} | SPREAD
    )
    images = image_sets.real_images(experiment, data, 35, data.split.size)
    whole = sample_metrics.measure(extract, images, data.split.size)
    wanted = sample_metrics.compare(whole, samples, net.classes)
    assert scores == pytest.approx({name: wanted[name] for name in scores}, rel=1e-5)
    assert monitor.scores(1)["fid"] != scores["fid"]
    nameless = net._replace(classes=0)
    assert sample_metrics.monitor_names(nameless) == {"fid", "feature_variance"}


def test_a_monitor_draws_classes_by_turns(net, experiment, data):
    plain, by_turns = (
        sample_metrics.make_monitor(experiment, data, net, 35, COUNT, classes).scores(0)
        for classes in (0, 3)
    )
    assert plain["fid"] != by_turns["fid"]


def test_a_monitor_that_cannot_work_is_refused(net, experiment, data):
    with pytest.raises(UserError, match=r"config.score.samples: the task has no sample\(\)"):
        sample_metrics.make_monitor(stand_ins.experiment(), data, net, 35, COUNT)
    with pytest.raises(UserError, match=r"config.score.samples: KID .* at least 40 .* are 39"):
        sample_metrics.make_monitor(experiment, data, net, 35, 39)
    wide = net._replace(size=90)
    with pytest.raises(UserError, match=r"test: FID .* at least 91 images; there are 90"):
        sample_metrics.make_monitor(experiment, data, wide, 35, 91)


def test_progress_is_logged_now_and_then(extract, experiment, data, monkeypatch, caplog):
    monkeypatch.setattr(sample_metrics, "PROGRESS_SECONDS", -1.0)
    images = lambda: image_sets.real_images(experiment, data, 35, COUNT)
    with caplog.at_level(logging.INFO, "segen"):
        sample_metrics.measure(extract, images(), 1070, "counting")
        assert [record.message for record in caplog.records] == [
            "counting: 35 of 1,070",
            "counting: 70 of 1,070",
        ]
        monkeypatch.setattr(sample_metrics, "PROGRESS_SECONDS", 1000.0)
        sample_metrics.measure(extract, images(), 1070, "counting")
        sample_metrics.measure(extract, images(), 1070)
    assert len(caplog.records) == 2


def test_images_are_rounded_to_levels_and_nan_stays_nan():
    images = jnp.array([0.0, 0.4 / 255, 0.6 / 255, 1.2, -0.3, jnp.nan]).reshape(-1, 1, 1, 1)
    levels = np.asarray(sample_metrics.round_to_levels(images)).ravel()
    np.testing.assert_allclose(levels[:5], [0, 0, 1 / 255, 1, 0], rtol=1e-6)
    assert np.isnan(levels[5])
    whole = np.arange(256, dtype=np.uint8)
    np.testing.assert_allclose(sample_metrics.round_to_levels(whole), whole / 255, rtol=1e-6)


def test_ms_ssim_is_of_pairs_of_one_class():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 8, 8, 1)).astype(np.uint8)
    classes = np.arange(20) % 2
    varied = sample_metrics.ImageSet({}, np.zeros((20, 1)), classes, images)
    by_class = varied._replace(images=images[classes])
    assert sample_metrics.pairwise_ms_ssim(varied, 2) < 0.3
    assert sample_metrics.pairwise_ms_ssim(by_class, 2) == pytest.approx(1)
    assert sample_metrics.pairwise_ms_ssim(by_class) < 0.99
    assert np.isnan(sample_metrics.pairwise_ms_ssim(varied._replace(images=images[:1])))


def test_ms_ssim_is_the_mean_over_pairs_spread_over_the_set(monkeypatch):
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (20, 8, 8, 1)).astype(np.uint8)
    varied = sample_metrics.ImageSet({}, np.zeros((20, 1)), np.zeros(20, int), images)
    floats = images.astype(np.float32) / 255
    each = np.asarray(jax.jit(ssim.ms_ssim)(floats[:-1], floats[1:]))  # of each with the next
    whole = sample_metrics.pairwise_ms_ssim(varied)
    assert whole == pytest.approx(each.mean(), abs=1e-6)
    monkeypatch.setattr(sample_metrics, "MAX_PAIRS", 18)
    left_out = 19 * whole - 18 * sample_metrics.pairwise_ms_ssim(varied)
    assert np.abs(each[1:-1] - left_out).min() < 1e-5  # the first and the last pair are in


@pytest.mark.parametrize(
    ("count", "size", "message"),
    [
        (39, 6, "--samples: KID in 20 blocks needs at least 40 images; there are 39"),
        (100, 128, "--samples: FID in 128 features needs at least 129 images; there are 100"),
    ],
)
def test_too_few_images_are_refused(count, size, message):
    with pytest.raises(UserError, match=message):
        sample_metrics.check_counts({"--samples": count}, size)


def test_just_enough_images_are_accepted():
    sample_metrics.check_counts({"--samples": 2049}, 2048)
    sample_metrics.check_counts({"--samples": 40})


def test_progress_is_told_every_ten_seconds(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(sample_metrics.time, "monotonic", lambda: now[0])
    progress = sample_metrics._Progress("samples", 5000)
    for seconds in (110.0, 110.5, 120.5, 121.0):
        now[0] = seconds
        progress.add(500)
    assert capsys.readouterr().err.splitlines() == [
        "samples: 1,000 of 5,000",
        "samples: 2,000 of 5,000",
    ]


def test_blocks_of_kid_are_those_of_seed_0(monkeypatch, real, samples):
    seeds = []

    def distance(real, generated, seed):
        seeds.append(seed)
        return SimpleNamespace(value=0.25, standard_error=0.5)

    monkeypatch.setattr(sample_metrics.kernel_distance, "kernel_distance", distance)
    scores = sample_metrics.compare(real, samples)
    assert (seeds, scores["kid"], scores["kid_standard_error"]) == ([0], 0.25, 0.5)
    assert not SPREAD & scores.keys()  # of a net that does not know the classes
