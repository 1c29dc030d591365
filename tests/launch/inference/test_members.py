"""One run as a predictor, around a net of numpy whose classes are the channels of the image."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tifffile
from PIL import Image

from launch.config import schema
from launch.config.errors import UserError
from launch.engine.trained_runs import Restored
from launch.inference.members import Files, Member
from tests.launch.inference.test_scaling import bilinear

EXAMPLE = {"image": np.zeros((24, 32, 3), np.uint8)}


def probability_of(image, xp=np):
    """Softmax of the channels, in float32."""
    powers = xp.exp(xp.asarray(image, np.float32) / 100)
    return powers / powers.sum(-1, keepdims=True)


def entropy_of(probability, xp=np):
    return -(probability * xp.log(probability)).sum(-1)


class Net:
    """predict() that remembers the batches that it was given, and can be traced."""

    def __init__(self):
        self.batches = []

    def __call__(self, state, batch):
        xp = np if isinstance(batch["image"], np.ndarray) else jnp
        self.batches += [batch] * (xp is np)
        probability = probability_of(batch["image"], xp)
        return {
            "probability": probability,
            "entropy": entropy_of(probability, xp),
            "information": batch["image"][..., 0] / np.float32(255),
        }


READING = {
    **{"channels": 3, "dtype": "uint8", "ranges": [], "alpha": False, "stored": False},
    **{"classes": ["a", "b", "c"], "ignore": 255, "binary": False, "values": "ids", "ids": []},
    **{"canvas": [8, 8], "scale": 1.0, "colours": [], "lines": []},
}


def restored_of(net=None, example=EXAMPLE, task=(), model=(), predict=(), devices=1, **data):
    config = schema.defaults()
    with config.unlocked():
        config.task = {"name": "mine:task", "classes": 3, **dict(task)}
        config.model = {"name": "jaxseg.nets:UNet", "widths": (4, 4), **dict(model)}
    config.predict.update(dict(predict))
    compiled = SimpleNamespace(predict=net or Net(), put_batch=lambda batch: batch, template=None)
    experiment = SimpleNamespace(
        example=example, compiled=compiled, mesh=SimpleNamespace(size=devices)
    )
    facts = SimpleNamespace(
        split=SimpleNamespace(classes=data.get("classes", ())), reading=data.get("reading", {})
    )
    state = SimpleNamespace(class_frequencies=np.array([2.0, 1.0, 1.0]))
    return Restored(config, facts, experiment, state, 7)


def member_of(*arguments, batch_size=1, depth=False, **options):
    return Member(restored_of(*arguments, **options), batch_size, depth)


def predicted(member, image, **more):
    """The whole maps of an image."""
    parts = list(member.strips({"image": image} | more))
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def picture(*shape, seed=0):
    """A random image whose channels differ at every pixel."""
    image = np.random.default_rng(seed).integers(0, 85, (*shape, 3), np.uint8)
    return 3 * image + np.arange(3, dtype=np.uint8)


def saved(folder, array, name="a.png"):
    Image.fromarray(array).save(folder / name)
    return folder / name


@pytest.mark.parametrize("shape", [(1, 1), (17, 301), (100, 90), (24, 32)])
def test_images_of_any_size(shape):
    net, image = Net(), picture(*shape)
    found = predicted(member_of(net, batch_size=2), image)
    np.testing.assert_allclose(found["probability"], probability_of(image), atol=1e-6)
    np.testing.assert_allclose(found["information"], image[..., 0] / 255, atol=1e-6)
    assert {batch["image"].shape for batch in net.batches} == {(2, 24, 32, 3)}


def test_images_of_many_sizes_are_one_compilation():
    traces = []

    @jax.jit
    def net(state, batch):
        traces.append(batch)
        probability = jax.nn.softmax(batch["image"].astype(jnp.float32))
        return {"probability": probability, "entropy": probability[..., 0]}

    member = member_of(lambda state, batch: net(None, batch))
    for shape in ((5, 9), (24, 32), (40, 33), (31, 80)):
        predicted(member, picture(*shape))
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("window", "model", "expected"),
    [
        (0, {}, (24, 32)),
        (10, {}, (10, 10)),
        (9, {}, (10, 10)),
        (0, {"widths": (4, 4, 4, 4, 4)}, (32, 32)),
        (20, {"widths": (4, 4, 4), "stem": 3}, (24, 24)),
        (5, {"widths": (4,)}, (5, 5)),
    ],
)
def test_windows_are_multiples_of_the_strides(window, model, expected):
    net = Net()
    predicted(member_of(net, model=model, predict={"window": window}), picture(50, 70))
    assert {batch["image"].shape[1:3] for batch in net.batches} == {expected}


def test_a_net_that_names_no_multiple_has_windows_of_multiples_of_32():
    restored = restored_of()
    with restored.config.unlocked():
        restored.config.model = {"name": "jaxseg.nets:EdgeNet"}
    assert Member(restored, 1, False).window == (32, 32)


def test_windows_at_a_time_are_a_multiple_of_the_devices():
    assert member_of(batch_size=3, devices=4).batch_size == 4
    assert member_of(batch_size=4, devices=4).batch_size == 4
    assert member_of(batch_size=5, devices=1).batch_size == 5


@pytest.mark.parametrize(("asked", "of_data"), [(0.5, 1.0), (0.0, 0.5)])
def test_images_are_scaled_as_in_training(asked, of_data):
    height, width = 300, 45  # of more than one strip
    net, image = Net(), picture(height, width)
    member = member_of(net, predict={"scale": asked}, reading={**READING, "scale": of_data})
    found = predicted(member, image)["probability"]
    small = np.asarray(Image.fromarray(image).resize((22, 150), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(found, bilinear(probability_of(small), height, width), atol=1e-5)


def test_a_scale_never_loses_the_image():
    found = predicted(member_of(predict={"scale": 0.1}), picture(3, 4))
    assert found["probability"].shape == (3, 4, 3)


def test_depth_takes_the_nearest_pixel_when_scaled():
    net = Net()
    example = EXAMPLE | {"depth": np.zeros((24, 32, 1), np.float32)}
    member = member_of(net, example, predict={"scale": 0.5})
    depth = np.arange(16, dtype=np.float32).reshape(4, 4, 1)
    predicted(member, picture(4, 4), depth=depth)
    assert set(np.unique(net.batches[0]["depth"])) <= set(range(16))


def test_images_are_read_as_in_training(tmp_path):
    image = picture(5, 6)
    path = saved(tmp_path, image)
    np.testing.assert_array_equal(member_of().read(Files(path, None, None))["image"], image)
    grey = member_of(example={"image": np.zeros((24, 32, 1), np.uint8)})
    with pytest.raises(ValueError, match=r"a\.png: the net was trained on grey images"):
        grey.read(Files(path, None, None))
    path = saved(tmp_path, image[..., 0])
    read = grey.read(Files(path, None, None))["image"]
    np.testing.assert_array_equal(read, image[..., :1])


def test_depth_is_in_the_unit_of_training(tmp_path):
    image = saved(tmp_path, picture(5, 6))
    depth = saved(tmp_path, np.arange(30, dtype=np.uint16).reshape(5, 6) * 1000, "d.png")
    example = EXAMPLE | {"depth": np.zeros((24, 32, 1), np.float32)}
    member = member_of(None, example, task={"depth_unit": 2.0}, depth=True)
    found = member.read(Files(image, None, depth))["depth"]
    assert (found.dtype, found.shape) == (np.float32, (5, 6, 1))
    np.testing.assert_array_equal(found.ravel(), np.arange(30) / 2)
    assert not member.read(Files(image, None, None))["depth"].any()
    assert "depth" not in member_of(depth=True).read(Files(image, None, depth))
    other = saved(tmp_path, np.ones((6, 5), np.uint16), "e.png")
    with pytest.raises(ValueError, match=r"e.png: is 5 x 6, its image 6 x 5"):
        member.read(Files(image, None, other))


def test_depth_is_in_metres_unless_told_otherwise(tmp_path):
    image = saved(tmp_path, picture(2, 3))
    depth = saved(tmp_path, np.arange(6, dtype=np.uint16).reshape(2, 3) * 500, "d.png")
    example = EXAMPLE | {"depth": np.zeros((24, 32, 1), np.float32)}
    found = member_of(None, example, depth=True).read(Files(image, None, depth))["depth"]
    assert found.ravel().tolist() == [0, 0.5, 1, 1.5, 2, 2.5]


def test_depth_that_is_missing_or_not_used_is_said(capsys):
    member_of(depth=True)
    assert "trained without depth: --depth is not used" in capsys.readouterr().err
    example = EXAMPLE | {"depth": np.zeros((24, 32, 1), np.float32)}
    member_of(None, example, task={"features": ("depth",)})
    assert "depth is unknown everywhere" in capsys.readouterr().err
    member_of(None, example, task={"features": ("depth",)}, depth=True)
    member_of()
    assert capsys.readouterr().err == ""


def bands(folder, count, dtype=np.uint8, name="b.tif", **tags):
    """A TIFF of random values with any number of channels, and the values."""
    values = np.random.default_rng(0).integers(0, 200, (6, 7, count)).astype(dtype)
    tags = {"photometric": "minisblack", "planarconfig": "contig" if count > 1 else None} | tags
    tifffile.imwrite(folder / name, values, **tags)
    return Files(folder / name, None, None), values


@pytest.mark.parametrize("count", [2, 4, 5, 9])
def test_any_number_of_bands_that_training_had(tmp_path, count):
    example = {"image": np.zeros((24, 32, count), np.uint8)}
    ranges = [[0, 400]] * count
    how = {"channels": count, "dtype": "uint16", "ranges": ranges}
    member = member_of(None, example, reading={**READING, **how})
    files, values = bands(tmp_path, count, np.uint16)
    read = member.read(files)["image"]
    np.testing.assert_array_equal(read, np.round(values * (255 / 400)).astype(np.uint8))
    found = predicted(member, read)["probability"]
    np.testing.assert_allclose(found, probability_of(read), atol=1e-6)


RGB = {"photometric": "rgb", "extrasamples": ["unspecified"]}


@pytest.mark.parametrize(
    ("made", "trained", "message"),
    [
        ((4, np.uint8, RGB), (3, "uint8"), "has 4 channels, the data of training 3"),
        ((4, np.uint8, {}), (3, "uint8"), "has 4 channels, the data of training 3"),
        ((4, np.uint16, RGB), (3, "uint16"), "has 4 channels, the data of training 3"),
        ((2, np.uint8, {}), (1, "uint8"), "has 2 channels, the data of training 1"),
        ((5, np.uint8, {}), (3, "uint8"), "has 5 channels, the data of training 3"),
        ((3, np.uint8, {}), (4, "uint8"), "has 3 channels, the data of training 4"),
        ((1, np.uint8, {}), (4, "uint8"), "has 1 channels, the data of training 4"),
        ((3, np.uint8, {}), (1, "uint8"), "has 3 channels, the data of training 1"),
        ((4, np.uint8, {}), (5, "uint8"), "has 4 channels, the data of training 5"),
        ((4, np.uint8, {}), (1, "uint8"), "has 4 channels, the data of training 1"),
        ((3, np.uint16, {}), (3, "uint8"), "holds values of uint16, the data of training uint8"),
        ((3, np.uint8, {}), (3, "uint16"), "holds values of uint8, the data of training uint16"),
        ((5, np.float32, {}), (5, "uint16"), "values of float32, the data of training uint16"),
    ],
)
def test_other_channels_and_values_than_those_of_training(tmp_path, made, trained, message):
    count, dtype, tags = made
    files, _ = bands(tmp_path, count, dtype, **tags)
    how = dict(zip(("channels", "dtype"), trained, strict=True))
    example = {"image": np.zeros((24, 32, trained[0]), np.uint8)}
    with pytest.raises(ValueError, match=rf"b\.tif: .*{message}"):
        member_of(None, example, reading={**READING, **how}).read(files)


def test_transparency_is_dropped_as_in_training(tmp_path):
    files, values = bands(tmp_path, 4, photometric="rgb", extrasamples=["unassalpha"])
    np.testing.assert_array_equal(member_of().read(files)["image"], values[..., :3])
    files, values = bands(tmp_path, 4, **RGB)
    with pytest.raises(ValueError, match="has 4 channels, the data of training 3"):
        member_of().read(files)
    # Whose training dropped a fourth channel of unknown meaning said so.
    dropped = member_of(reading={**READING, "alpha": True})
    np.testing.assert_array_equal(dropped.read(files)["image"], values[..., :3])


def test_printing_colours_palettes_and_grey_become_rgb(tmp_path):
    values = np.random.default_rng(0).integers(0, 255, (6, 7, 4)).astype(np.uint8)
    Image.fromarray(values, "CMYK").save(tmp_path / "c.tif")
    Image.fromarray(values[..., :3]).quantize(9).save(tmp_path / "p.tif")
    Image.fromarray(values[..., 0]).save(tmp_path / "l.tif")
    tifffile.imwrite(tmp_path / "la.tif", values[..., :2], extrasamples=["unassalpha"])
    for name in ("c", "p", "l", "la"):
        files = Files(tmp_path / f"{name}.tif", None, None)
        for reading in ({}, READING):
            assert member_of(reading=reading).read(files)["image"].shape == (6, 7, 3)


def test_members_that_read_alike():
    same, other = member_of(reading=READING), member_of(reading=READING)
    assert same.reads_like(other)
    wide = {**READING, "dtype": "uint16", "ranges": [[0, 9]] * 3}
    assert not same.reads_like(member_of(reading=wide))
    assert not same.reads_like(member_of())
    assert not same.reads_like(member_of(example={"image": np.zeros((8, 8, 1), np.uint8)}))
    with_depth = EXAMPLE | {"depth": np.zeros((24, 32, 1), np.float32)}
    metres, feet = (member_of(None, with_depth, task={"depth_unit": unit}) for unit in (1.0, 0.3))
    assert metres.reads_like(metres)
    assert not metres.reads_like(feet)
    assert not metres.reads_like(member_of())


def test_the_maps_of_a_net_are_known_before_it_runs():
    net = Net()
    assert set(member_of(net).outputs()) == {"probability", "entropy", "information"}
    assert net.batches == []


def test_runs_that_cannot_label_files():
    with pytest.raises(UserError, match="4 channels; files have 1 or 3"):
        member_of(example={"image": np.zeros((8, 8, 4), np.uint8)})
    restored = restored_of()
    restored.experiment.compiled.predict = None
    with pytest.raises(UserError, match=r"mine:task has no predict\(\)"):
        Member(restored, 1, False)
