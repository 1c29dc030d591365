"""The images of each set, each counted once, for any batch size and number of devices."""

import jax
import numpy as np
import pytest

from launch.engine import sharding
from launch.scoring import image_sets
from tests.launch.scoring import stand_ins


def gathered(batches):
    """The images that the masks keep, and how many rows each batch has."""
    rows = [(np.asarray(images), np.asarray(mask)) for images, mask in batches]
    return np.concatenate([images[mask] for images, mask in rows]), [len(m) for _, m in rows]


@pytest.mark.parametrize(("batch_size", "devices", "sizes"), [(32, 1, [32] * 2), (7, 4, [8] * 5)])
@pytest.mark.parametrize("count", [40, 33])
def test_the_first_real_images_of_a_split(batch_size, devices, sizes, count):
    data = stand_ins.open_images()
    batches = image_sets.real_images(stand_ins.experiment(devices), data, batch_size, count)
    images, rows = gathered(batches)
    np.testing.assert_array_equal(images, data.arrays["image"][:count])
    assert rows == sizes


def test_a_split_ends_where_fewer_images_are_there_than_asked_for():
    data = stand_ins.open_images()
    images, _ = gathered(image_sets.real_images(stand_ins.experiment(), data, 32, 1000))
    np.testing.assert_array_equal(images, data.arrays["image"])


@pytest.mark.parametrize("count", [32, 33, 40, 90])
def test_several_processes_take_their_rows_of_the_same_batches(monkeypatch, count):
    """Also where no row of a process counts: it takes part in the batch all the same."""
    data, parts = stand_ins.open_images(), []
    for process in range(2):
        monkeypatch.setattr(sharding, "process_place", lambda process=process: (process, 2))
        batches = image_sets.real_images(stand_ins.experiment(), data, 32, count)
        parts.append([(np.asarray(images), np.asarray(mask)) for images, mask in batches])
    assert [len(mask) for part in parts for _, mask in part] == [16] * (2 * -(-count // 32))
    rows = [(i, m) for pair in zip(*parts, strict=True) for i, m in pair]
    found = np.concatenate([images[mask] for images, mask in rows])
    np.testing.assert_array_equal(found, data.arrays["image"][:count])


@pytest.mark.parametrize("classes", [0, 3])
def test_samples_are_those_of_the_first_seeds_with_classes_by_turns(classes):
    experiment = stand_ins.experiment(2, sample=stand_ins.sample)
    images, rows = gathered(image_sets.sampled_images(experiment, 5, classes, 3, 10))
    assert rows == [4, 4, 4]
    index = np.arange(10)
    label = index % 3 if classes else np.zeros(10, int)
    wanted = stand_ins.sample(5, {"index": index, "label": label})
    np.testing.assert_allclose(images, wanted, atol=1e-6)


def test_completed_images_come_with_the_examples_that_they_are_made_of():
    data = stand_ins.open_images()

    def complete(state, batch):
        assert set(batch) == {"image", "index", "label"}  # not the whole example
        return batch["image"] / 255 * state + batch["label"][:, None, None, None]

    experiment = stand_ins.experiment(complete=jax.jit(complete))
    made = list(image_sets.completed_images(experiment, 0.5, data, 32, 40))
    images, _ = gathered((images, batch["mask"]) for images, batch in made)
    first = {name: array[:40] for name, array in data.arrays.items()}
    wanted = first["image"] / 255 * 0.5 + first["label"][:, None, None, None]
    np.testing.assert_allclose(images, wanted, atol=1e-6)
    label = np.concatenate([batch["label"][batch["mask"]] for _, batch in made])
    np.testing.assert_array_equal(label, first["label"])
