import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds

from launch.config import by_name, loading, schema
from launch.config.errors import UserError
from launch.data import batches, sources, stock
from launch.data.bad_file import BadFile
from launch.engine import experiments, validate

# Of cityscapesScripts' helpers/labels.py: the ids of the trainIds 0 to 18.
EVALUATED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
TRAIN_IDS = [EVALUATED.index(k) if k in EVALUATED else 255 for k in range(256)]


@pytest.fixture
def pet():
    """An example with the keys, types and sizes that TFDS gives, and made-up content."""
    policy = tfds.testing.MockPolicy.USE_CODE
    with tfds.testing.mock_data(num_examples=1, policy=policy):
        example = dict(tfds.builder("oxford_iiit_pet").as_data_source(split="train")[0])
    shape = example["image"].shape[:2]
    mask = np.random.default_rng(0).integers(1, 4, (*shape, 1)).astype(np.uint8)
    return sources.canonical(example | {"segmentation_mask": mask})


def city(shape=(32, 64)):
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 34, (*shape, 1)).astype(np.uint8)
    ids[0, :2, 0] = 255, 26
    return {"image_left": rng.integers(0, 256, (*shape, 3), np.uint8), "segmentation_label": ids}


def test_pets_at_their_own_size_and_resized(pet):
    found = stock.pets(pet, pet["image"].shape[:2])
    np.testing.assert_array_equal(found["image"], pet["image"])
    np.testing.assert_array_equal(found["segmentation"], pet["segmentation_mask"] - 1)
    small = stock.pets(pet, 16)
    assert (small["image"].shape, small["segmentation"].shape) == ((16, 16, 3), (16, 16, 1))
    assert set(np.unique(small["segmentation"])) <= {0, 1, 2}
    assert small["segmentation"].dtype == np.uint8


def test_cityscapes_has_the_classes_of_the_benchmark():
    example = city()
    found = stock.cityscapes(example, (32, 64))
    expected = np.array(TRAIN_IDS, np.uint8)[example["segmentation_label"]]
    np.testing.assert_array_equal(found["segmentation"], expected)
    assert found["segmentation"][0, 1] == list(stock.CITYSCAPES.values()).index("car")
    assert "depth" not in found
    assert stock.cityscapes(example, (8, 16))["image"].shape == (8, 16, 3)


def test_depth_of_disparity():
    """10 pixels of disparity are 0.209313 m * 2262.52 / 10 = 47.36 m; 0 is unknown."""
    disparity = np.array([[0, 1, 1 + 2560, 1 + 25600]], np.int32)
    depth = stock.depth_of_disparity(disparity)
    np.testing.assert_allclose(depth, [[0, 0, 47.3575, 4.73575]], rtol=1e-4)
    example = city((1, 4)) | {"disparity_map": disparity[..., None]}
    assert stock.cityscapes(example, (1, 4))["depth"].dtype == np.float32
    with pytest.raises(BadFile, match="disparity_map: 8 bits of 16"):
        stock.depth_of_disparity(disparity.astype(np.uint8))


def test_what_does_not_fit_is_named(pet):
    pet["segmentation_mask"][3, 5] = 9
    with pytest.raises(BadFile, match=r"mask \(x 5, y 3\): id 9, which the data set does not have"):
        stock.pets(pet, 16)
    example = city()
    example["segmentation_label"][0, 0] = 34
    with pytest.raises(BadFile, match=r"label \(x 0, y 0\): id 34"):
        stock.cityscapes(example, 16)
    with pytest.raises(BadFile, match=r"no 'image' .*made for oxford_iiit_pet"):
        stock.pets(example, 16)


def records(split):
    return [{"image": np.zeros((4, 4, 3), np.uint8)}]


def test_a_data_set_without_masks_is_a_mistake():
    config = schema.defaults().data
    config.name = f"{__name__}:records"
    config.preprocess = {"name": "launch.data.stock:pets", "size": (8, 8)}
    with pytest.raises(
        UserError, match=r"examples have no 'segmentation_mask' \(they have image\)"
    ):
        sources.open_split(config, "train")[0]


def test_breeds_are_labels(pet):
    example = stock.breeds(pet, 16)
    assert example["image"].shape == (16, 16, 3)
    assert example["label"] == pet["label"]


def test_the_configs_name_the_classes_as_the_data_does():
    from configs.unet import CITYSCAPES_NAMES, get_config

    assert tuple(stock.CITYSCAPES.values()) == CITYSCAPES_NAMES
    assert get_config("pets").task.names == stock.PETS


@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        ("configs/unet.py:pets", (128, 128)),
        ("configs/unet.py:cityscapes", (256, 512)),
        ("configs/cnn.py:founding", (224, 224)),
    ],
)
def test_the_configs_fit_the_data(pet, spec, shape):
    """From an example as TFDS gives it to a task that keeps its contract, by shapes alone."""
    config = loading.load(spec)
    config.model.widths = (4, 4)  # the data decide, not the depth of the net
    function = by_name.partial(config.data.preprocess, "config.data.preprocess")
    found = function(city() if "cityscapes" in spec else pet)
    assert found["image"].shape == (*shape, 3)
    example = {
        key: jax.ShapeDtypeStruct(array.shape, array.dtype)
        for key, array in sources.canonical(found).items()
    }
    task, _ = experiments.make_task(config, example)
    validate.validate_task(task, batches.batch_spec(example, 2), config.task.name)
