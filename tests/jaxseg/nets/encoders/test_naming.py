import ml_dtypes
import numpy as np
import pytest

from jaxseg.nets.encoders.naming import Naming, Rule, adapt, fit_channels

KERNEL = "params/stem/kernel"
SHAPES = {KERNEL: (3, 3, 3, 4), "params/norm/scale": (4,), "params/qkv/kernel": (4, 6)}
RULES = (
    Rule(r"conv\.weight", KERNEL),
    Rule(r"bn(\d)\.weight|gamma", "params/norm/scale"),
    Rule(r"q\.weight", "params/qkv/kernel", (0, 3)),
    Rule(r"k\.weight", "params/qkv/kernel", (1, 3)),
    Rule(r"v\.weight", "params/qkv/kernel", (2, 3)),
)
NAMINGS = (
    Naming("one tool", RULES, r"fc\..*|head"),
    Naming("another tool", (Rule("first", KERNEL),)),
)


def tensors(**changes):
    random = np.random.default_rng(0)
    given = {
        "conv.weight": random.normal(size=(4, 3, 3, 3)),
        "bn1.weight": random.normal(size=4),
        "q.weight": random.normal(size=(2, 4)),
        "k.weight": random.normal(size=(2, 4)),
        "v.weight": random.normal(size=(2, 4)),
        "fc.bias": np.zeros(5),
    }
    given |= {key.replace("__", "."): value for key, value in changes.items()}
    return {key: value for key, value in given.items() if value is not None}


def adapted(given, shapes=SHAPES):
    return adapt(given, shapes, NAMINGS, KERNEL)


def test_axes_change_and_parts_join():
    given = tensors()
    found = adapted(given)
    kernel = found.variables[KERNEL]
    assert kernel.dtype == np.float32
    assert kernel[2, 1, 0, 3] == np.float32(given["conv.weight"][3, 0, 2, 1])
    parts = [given[f"{name}.weight"].T for name in "qkv"]
    np.testing.assert_allclose(
        found.variables["params/qkv/kernel"], np.concatenate(parts, 1), rtol=1e-6
    )
    np.testing.assert_allclose(found.variables["params/norm/scale"], given["bn1.weight"], rtol=1e-6)
    assert found.variables.keys() == SHAPES.keys()
    assert (found.naming, found.unused, found.notes) == ("one tool", ("fc.bias",), ())


def test_a_rule_can_change_a_tensor_in_a_way_of_its_own():
    naming = Naming("tool", (Rule("scale", "params/scale", change=np.ravel),))
    found = adapt({"scale": np.ones((4, 1, 1))}, {"params/scale": (4,)}, (naming,), KERNEL)
    assert found.variables["params/scale"].shape == (4,)


def test_a_naming_is_found_by_the_keys():
    found = adapt({"first": np.ones((4, 3, 3, 3))}, {KERNEL: (3, 3, 3, 4)}, NAMINGS, KERNEL)
    assert found.naming == "another tool"


@pytest.mark.parametrize("prefix", ["module.", "encoder.", "model.backbone."])
def test_what_tools_put_before_names_is_passed_over(prefix):
    given = {prefix + key: value for key, value in tensors().items()}
    assert adapted(given).unused == (prefix + "fc.bias",)


def test_half_precision_is_read():
    half = np.ones(4, ml_dtypes.bfloat16)
    assert adapted(tensors(bn1__weight=half)).variables["params/norm/scale"].dtype == np.float32


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"other__weight": np.ones(1)}, "other.weight is not of this architecture"),
        ({"bn1__weight": None}, "nothing fills params/norm/scale$"),
        ({"k__weight": None}, "nothing fills params/qkv/kernel wholly$"),
        ({"bn1__weight": np.ones(5)}, r"bn1.weight has shape \[5\], params/norm/scale \[4\]$"),
        ({"gamma": np.ones(4)}, "gamma is one too many for params/norm/scale$"),
        ({"bn1__weight": np.full(4, np.nan)}, "bn1.weight has numbers that are not finite$"),
        ({f"other{n}": np.ones(1) for n in range(7)}, "; 2 more$"),
    ],
)
def test_what_does_not_fit_is_named(changes, message):
    with pytest.raises(ValueError, match="by the names of one tool: .*" + message):
        adapted(tensors(**changes))


def test_a_variable_that_the_net_does_not_have_is_named():
    shapes = {key: shape for key, shape in SHAPES.items() if key != "params/norm/scale"}
    with pytest.raises(ValueError, match=r"bn1\.weight has no place: .* params/norm/scale"):
        adapted(tensors(), shapes)


@pytest.mark.parametrize(("given", "got"), [({"a": np.ones(1)}, "got a$"), ({}, "got none$")])
def test_a_file_without_a_known_key_is_refused_with_the_tools_that_are_known(given, got):
    with pytest.raises(ValueError, match=f"one tool; another tool; {got}"):
        adapted(given)


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_the_first_convolution_fits_other_channels(channels):
    found = adapted(tensors(), SHAPES | {KERNEL: (3, 3, channels, 4)})
    kernel = tensors()["conv.weight"].transpose(2, 3, 1, 0)
    expected = [kernel.sum(2)] if channels == 1 else []
    expected = expected or [kernel[:, :, i % 3] * 3 / channels for i in range(channels)]
    np.testing.assert_allclose(found.variables[KERNEL], np.stack(expected, 2), rtol=1e-5)
    note = f"conv.weight: 3 channels made {channels}"
    assert found.notes == (() if channels == 3 else (note,))


def test_a_gray_image_gives_the_same_by_one_channel_and_by_equal_ones():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 4))
    for channels in (1, 3, 6):
        np.testing.assert_allclose(fit_channels(kernel, channels).sum(2), kernel.sum(2), rtol=1e-6)
