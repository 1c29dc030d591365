"""Real images are measured once, whatever is compared with them."""

import numpy as np
import pytest

from launch.scoring import image_sets, reals, sample_metrics
from tests.launch.scoring import stand_ins


@pytest.fixture
def counted():
    """An extractor of features, the batches of a split, and how many batches were extracted."""
    experiment, data, calls = stand_ins.experiment(2), stand_ins.open_images(), []
    extract = sample_metrics.make_extractor(stand_ins.quarters(), experiment.mesh)
    batches = lambda: image_sets.real_images(experiment, data, 32, data.split.size)
    counting = lambda *batch: calls.append(len(calls)) or extract(*batch)
    return reals.TrainingImages(counting, batches), data.arrays["image"], calls


def test_training_images_are_extracted_once(counted):
    training, images, calls = counted
    for _ in range(3):
        found = [np.concatenate(parts) for parts in zip(*training, strict=True)]
        np.testing.assert_array_equal(found[0], images)
        known = images.reshape(90, -1)[:, [18, 20, 27, 36, 43, 45]] / 255
        np.testing.assert_allclose(found[1], known, atol=1e-6)
        assert len(calls) == 3


@pytest.mark.parametrize("most", [0, 3000])  # bytes; a batch has 2048 and its features
def test_what_does_not_fit_into_memory_is_extracted_again(counted, monkeypatch, most):
    training, images, calls = counted
    monkeypatch.setattr(reals, "KEPT_BYTES", most)
    for turn in (1, 2):
        np.testing.assert_array_equal(np.concatenate([part for part, _ in training]), images)
        assert len(calls) == 3 * turn
