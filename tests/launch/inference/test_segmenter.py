"""A segmenter around a net of numpy, whose classes are the channels of the image."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from launch.config import schema
from launch.config.errors import UserError
from launch.engine.trained_runs import Restored
from launch.inference.segmenter import Files, Segmenter

EXAMPLE = {"image": np.zeros((24, 32, 3), np.uint8)}


def probability_of(image):
    """Softmax of the channels, in float32."""
    powers = np.exp(np.asarray(image, np.float32) / 100)
    return powers / powers.sum(-1, keepdims=True)


def entropy_of(probability):
    return -(probability * np.log(probability)).sum(-1)


class Net:
    """predict() that remembers the batches that it was given."""

    def __init__(self):
        self.batches = []

    def __call__(self, state, batch):
        self.batches.append(batch)
        probability = probability_of(batch["image"])
        return {
            "probability": probability,
            "entropy": entropy_of(probability),
            "information": batch["image"][..., 0] / np.float32(255),
        }


READING = {
    **{"channels": 3, "dtype": "uint8", "ranges": [], "alpha": False, "stored": False},
    **{"classes": ["a", "b", "c"], "ignore": 255, "binary": False, "values": "ids", "ids": []},
    **{"canvas": [8, 8], "scale": 1.0, "lines": []},
}


def restored_of(net=None, example=EXAMPLE, task=(), model=(), predict=(), devices=1, **data):
    config = schema.defaults()
    with config.unlocked():
        config.task = {"name": "mine:task", "classes": 3, **dict(task)}
        config.model = {"widths": (4, 4), **dict(model)}
    config.predict.update(dict(predict))
    compiled = SimpleNamespace(predict=net or Net(), put_batch=lambda batch: batch)
    experiment = SimpleNamespace(
        example=example, compiled=compiled, mesh=SimpleNamespace(size=devices)
    )
    facts = SimpleNamespace(
        split=SimpleNamespace(classes=data.get("classes", ())), reading=data.get("reading", {})
    )
    state = SimpleNamespace(class_frequencies=np.array([2.0, 1.0, 1.0]))
    return Restored(config, facts, experiment, state, 7)


def segmenter_of(*arguments, batch_size=1, depth=False, **options):
    restored = restored_of(*arguments, **options)
    return Segmenter(restored, batch_size, depth)


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
    found = segmenter_of(net, batch_size=2).label({"image": image}, None)
    assert found.labels.dtype == np.uint8
    np.testing.assert_array_equal(found.labels, image.argmax(-1))
    assert found.entropy == pytest.approx(entropy_of(probability_of(image)).mean(), rel=1e-5)
    assert found.uncertainty == {}
    assert {batch["image"].shape for batch in net.batches} == {(2, 24, 32, 3)}


def test_images_of_many_sizes_are_one_compilation():
    traces = []

    @jax.jit
    def net(state, batch):
        traces.append(batch)
        probability = jax.nn.softmax(batch["image"].astype(jnp.float32))
        return {"probability": probability, "entropy": probability[..., 0]}

    segmenter = segmenter_of(lambda state, batch: net(None, batch))
    for shape in ((5, 9), (24, 32), (40, 33), (31, 80)):
        segmenter.label({"image": picture(*shape)}, None)
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
    segmenter = segmenter_of(net, model=model, predict={"window": window})
    segmenter.label({"image": picture(50, 70)}, None)
    assert {batch["image"].shape[1:3] for batch in net.batches} == {expected}


def test_a_net_without_widths_has_windows_of_multiples_of_32():
    restored = restored_of()
    with restored.config.unlocked():
        restored.config.model = {"name": "mine:net"}
    assert Segmenter(restored, 1, False).window == (32, 32)


def test_windows_at_a_time_are_a_multiple_of_the_devices():
    assert segmenter_of(batch_size=3, devices=4).batch_size == 4
    assert segmenter_of(batch_size=4, devices=4).batch_size == 4
    assert segmenter_of(batch_size=5, devices=1).batch_size == 5


def enlarged(array, height, width):
    """Bilinear interpolation between pixel centres, edges repeated."""
    y = (np.arange(height) + 0.5) * array.shape[0] / height - 0.5
    x = (np.arange(width) + 0.5) * array.shape[1] / width - 0.5
    places = np.meshgrid(y, x, indexing="ij")
    planes = [
        ndimage.map_coordinates(array[..., k], places, order=1, mode="nearest")
        for k in range(array.shape[-1])
    ]
    return np.stack(planes, -1)


@pytest.mark.parametrize(("asked", "of_data"), [(0.5, 1.0), (0.0, 0.5)])
def test_images_are_scaled_as_in_training(asked, of_data):
    height, width = 300, 45  # of more than one strip
    net, image = Net(), picture(height, width)
    segmenter = segmenter_of(net, predict={"scale": asked}, reading={**READING, "scale": of_data})
    found = np.concatenate([part["probability"] for part in segmenter.posterior({"image": image})])
    small = np.asarray(Image.fromarray(image).resize((22, 150), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(found, enlarged(probability_of(small), height, width), atol=1e-5)


def test_a_scale_never_loses_the_image():
    found = segmenter_of(predict={"scale": 0.1}).label({"image": picture(3, 4)}, None)
    assert found.labels.shape == (3, 4)


def test_depth_takes_the_nearest_pixel_when_scaled():
    net = Net()
    example = EXAMPLE | {"depth": np.zeros((24, 32, 1), np.float32)}
    segmenter = segmenter_of(net, example, predict={"scale": 0.5})
    depth = np.arange(16, dtype=np.float32).reshape(4, 4, 1)
    segmenter.label({"image": picture(4, 4), "depth": depth}, None)
    assert set(np.unique(net.batches[0]["depth"])) <= set(range(16))


def test_another_prior_changes_the_decision():
    image = picture(20, 30)
    prior = np.array([0.6, 0.3, 0.1]), np.array([0.1, 0.1, 0.8])
    found = segmenter_of().label({"image": image}, prior)
    expected = (probability_of(image) * prior[1] / prior[0]).argmax(-1)
    np.testing.assert_array_equal(found.labels, expected)
    assert (found.labels != image.argmax(-1)).any()


def reverse(image, probability, by=1):
    """Refines: needs the image in [0, 1]; moves each class by `by`."""
    assert image.dtype == np.float32
    np.testing.assert_allclose(probability, probability_of(255 * image), atol=1e-5)
    return np.roll(probability, by, -1)


def add(labels, number):
    assert labels.dtype == np.int32
    return (labels + number) * 2


def test_refinement_and_postprocessing_run_in_their_order():
    image, module = picture(9, 8), __name__
    predict = {
        "refine": [{"name": f"{module}:reverse"}],
        "postprocess": [{"name": f"{module}:add", "number": 1}],
    }
    more = [{"name": f"{module}:add", "number": 5}]
    segmenter = Segmenter(restored_of(predict=predict), 1, False, postprocess=more)
    found = segmenter.label({"image": image}, None)
    assert found.labels.dtype == np.uint8
    np.testing.assert_array_equal(found.labels, ((image.argmax(-1) + 1) % 3 + 1) * 4 + 10)
    restored = restored_of()
    segmenter = Segmenter(restored, 1, False, refine=[{"name": f"{module}:reverse", "by": 2}])
    np.testing.assert_array_equal(
        segmenter.label({"image": image}, None).labels, (image.argmax(-1) + 2) % 3
    )
    assert list(restored.config.predict.refine) == []


def test_dropout_samples_give_maps_of_the_uncertainty():
    image = picture(50, 40)
    found = segmenter_of(task={"passes": 2}).label({"image": image}, None)
    assert set(found.uncertainty) == {"entropy", "information"}
    np.testing.assert_allclose(found.uncertainty["information"], image[..., 0] / 255, atol=1e-6)


def test_images_are_read_as_in_training(tmp_path):
    image = picture(5, 6)
    path = saved(tmp_path, image)
    np.testing.assert_array_equal(segmenter_of().read(Files(path, None, None))["image"], image)
    grey = segmenter_of(example={"image": np.zeros((24, 32, 1), np.uint8)})
    with pytest.raises(ValueError, match=r"a\.png: the net was trained on grey images"):
        grey.read(Files(path, None, None))
    path = saved(tmp_path, image[..., 0])
    read = grey.read(Files(path, None, None))["image"]
    np.testing.assert_array_equal(read, image[..., :1])


def test_depth_is_in_the_unit_of_training(tmp_path):
    image = saved(tmp_path, picture(5, 6))
    depth = saved(tmp_path, np.arange(30, dtype=np.uint16).reshape(5, 6) * 1000, "d.png")
    example = EXAMPLE | {"depth": np.zeros((24, 32, 1), np.float32)}
    segmenter = segmenter_of(None, example, task={"depth_unit": 2.0}, depth=True)
    found = segmenter.read(Files(image, None, depth))["depth"]
    assert (found.dtype, found.shape) == (np.float32, (5, 6, 1))
    np.testing.assert_array_equal(found.ravel(), np.arange(30) / 2)
    assert not segmenter.read(Files(image, None, None))["depth"].any()
    assert "depth" not in segmenter_of(depth=True).read(Files(image, None, depth))
    other = saved(tmp_path, np.ones((6, 5), np.uint16), "e.png")
    with pytest.raises(ValueError, match=r"e.png: is 5 x 6, its image 6 x 5"):
        segmenter.read(Files(image, None, other))


def test_depth_is_in_metres_unless_told_otherwise(tmp_path):
    image = saved(tmp_path, picture(2, 3))
    depth = saved(tmp_path, np.arange(6, dtype=np.uint16).reshape(2, 3) * 500, "d.png")
    example = EXAMPLE | {"depth": np.zeros((24, 32, 1), np.float32)}
    found = segmenter_of(None, example, depth=True).read(Files(image, None, depth))["depth"]
    assert found.ravel().tolist() == [0, 0.5, 1, 1.5, 2, 2.5]


def test_depth_that_is_missing_or_not_used_is_said(capsys):
    segmenter_of(depth=True)
    assert "trained without depth: --depth is not used" in capsys.readouterr().err
    example = EXAMPLE | {"depth": np.zeros((24, 32, 1), np.float32)}
    segmenter_of(None, example, task={"features": ("depth",)})
    assert "depth is unknown everywhere" in capsys.readouterr().err
    segmenter_of(None, example, task={"features": ("depth",)}, depth=True)
    segmenter_of()
    assert capsys.readouterr().err == ""


def test_the_prior_can_be_given():
    segmenter = segmenter_of()
    assert segmenter.prior("", []) is None
    old, new = segmenter.prior("2,1,1", [])
    np.testing.assert_allclose(old, [0.5, 0.25, 0.25])
    np.testing.assert_allclose(new, [0.5, 0.25, 0.25])
    np.testing.assert_allclose(segmenter.prior("0,0,3", [])[1], [0, 0, 1])


@pytest.mark.parametrize("shares", ["1,2", "1,2,3,4", "a,b,c", "-1,1,1", "0,0,0", "inf,1,1", "1"])
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(UserError, match=f'--prior={shares}: give 3 shares, as "0.5,0.3,0.2"'):
        segmenter_of().prior(shares, [])


def test_a_task_without_class_frequencies_has_no_prior():
    restored = restored_of()._replace(state=None)
    with pytest.raises(UserError, match="the state of mine:task has no class_frequencies"):
        Segmenter(restored, 1, False).prior("1,1,1", [])


@pytest.mark.parametrize(
    ("shape", "pixels"), [((400, 410), 67 * 68), ((100, 90), 25 * 22), ((256, 256), 64 * 64)]
)
def test_an_estimate_takes_about_4096_pixels_of_an_image(shape, pixels):
    """Every 6th row and column of 400 x 410 pixels; but never more than every 4th."""
    segmenter = segmenter_of()
    segmenter.read = lambda files: {"image": np.zeros((*shape, 3), np.uint8)}
    segmenter.posterior = lambda example: [{"probability": np.full((*shape, 3), 1 / 3)}]
    assert segmenter._sample([None, None], 3).shape == (2 * pixels, 3)


def test_the_prior_is_estimated_from_images_that_can_be_read(tmp_path, capsys):
    ids = np.random.default_rng(0).choice(3, (90, 120), p=(0.2, 0.7, 0.1))
    certain = saved(tmp_path, (255 * np.eye(3)).astype(np.uint8)[ids])
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"none")
    net = lambda state, batch: {
        "probability": batch["image"] / np.float32(255),
        "entropy": 0 * batch["image"][..., 0],
    }
    items = [Files(bad, None, None), Files(certain, None, None)]
    whole = {"window": 120}
    segmenter = segmenter_of(net, task={"names": ("sky", "sea", "sand")}, predict=whole)
    old, new = segmenter.prior("estimate", items)
    np.testing.assert_allclose(old, [0.5, 0.25, 0.25])
    used = np.bincount(ids[2::4, 2::4].ravel(), minlength=3) / ids[2::4, 2::4].size
    np.testing.assert_allclose(new, used, atol=2e-3)
    said = capsys.readouterr().err
    assert "left out of the estimate: " in said
    assert f"estimated class shares: sky {new[0]:.3f}, sea {new[1]:.3f}, sand" in said
    with pytest.raises(UserError, match="--prior=estimate: no image could be read"):
        segmenter.prior("estimate", items[:1])
    tiny = Files(saved(tmp_path, picture(1, 1), "tiny.png"), None, None)
    with pytest.raises(UserError, match="too small for an estimate"):
        segmenter.prior("estimate", [tiny])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": {"classes": 0}}, "mine:task has 0 classes; masks can hold 2 to 255"),
        ({"task": {"classes": 1}}, "has 1 classes"),
        ({"task": {"classes": 256}}, "has 256 classes"),
        ({"example": {"image": np.zeros((8, 8, 4), np.uint8)}}, "4 channels; files have 1 or 3"),
    ],
)
def test_runs_that_cannot_label_files(changes, message):
    with pytest.raises(UserError, match=message):
        segmenter_of(**changes)


def test_the_fewest_and_the_most_classes():
    assert segmenter_of(task={"classes": 2}).classes == 2
    assert segmenter_of(task={"classes": 255}).classes == 255


def test_a_task_that_does_not_predict():
    restored = restored_of()
    restored.experiment.compiled.predict = None
    with pytest.raises(UserError, match=r"mine:task has no predict\(\)"):
        Segmenter(restored, 1, False)


def test_classes_have_the_names_of_the_config_or_the_data_or_numbers():
    assert segmenter_of(classes=("a", "b", "c")).names == ("a", "b", "c")
    assert segmenter_of(classes=("a", "b")).names == ("0", "1", "2")
    assert segmenter_of(task={"names": ("x", "y", "z")}, classes=("a", "b", "c")).names[0] == "x"
