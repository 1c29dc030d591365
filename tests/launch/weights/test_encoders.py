"""Pretrained weights of an encoder: from a file into a state, and what is refused."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxseg.nets.encoders import ResNet
from launch.config.errors import UserError
from launch.weights import encoders
from tests.tools import encoder_parity as parity

DECODER = {"name": "jaxseg.nets.decoders:UNetDecoder"}


class State(SimpleNamespace):
    """A state with two collections, of an encoder and of a head."""

    def _replace(self, **new):
        return State(**(vars(self) | new))


@pytest.fixture(scope="module")
def tensors():
    return parity.golden("small_resnet10")[0]


@pytest.fixture
def file(tmp_path, tensors):
    save_file(tensors, tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def state_of(encoder):
    x = jnp.zeros((1, 32, 32, 3))
    variables = encoder.init(jax.random.key(0), x, jnp.zeros(1, jnp.int32))
    head = {"kernel": jnp.full((8, 2), 3.0)}
    return State(
        params={"encoder": variables["params"], "head": head},
        batch_stats={"encoder": variables["batch_stats"]},
    )


def template_of(state):
    shape = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
    return State(**jax.tree.map(shape, vars(state)))


def test_a_state_takes_the_numbers_of_the_file(file, tensors, caplog):
    caplog.set_level("INFO", "segen")
    encoder = ResNet(depth=10, width=8)
    state = state_of(encoder)
    spec = {"name": "jaxseg.nets.encoders:ResNet", "depth": 10, "width": 8}
    model = {"name": "jaxseg.nets:EncoderDecoder", "encoder": spec, "decoder": DECODER}
    new = encoders.load(file, model, template_of(state))(state)
    stem = tensors["conv1.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(new.params["encoder"]["stem"]["kernel"], stem)
    mean = new.batch_stats["encoder"]["stem_norm"]["mean"]
    np.testing.assert_array_equal(mean, tensors["bn1.running_mean"])
    assert jnp.all(new.params["head"]["kernel"] == 3.0)
    assert "net.safetensors: 60 variables of ResNet (torchvision" in caplog.text
    assert "not used: " in caplog.text


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"encoder": {"name": "jaxseg.nets.encoders:ResNet", "depth": 14, "width": 8}}, "does not"),
        ({"name": "jaxseg.nets:UNet"}, "jaxseg.nets:UNet has no encoder"),
    ],
)
def test_weights_that_fit_no_state_are_refused_before_there_is_one(file, model, words):
    spec = {"name": "jaxseg.nets.encoders:ResNet", "depth": 10, "width": 8}
    encoders.check(file, {"encoder": spec})
    with pytest.raises(UserError, match=words):
        encoders.check(file, model)
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(UserError, match="damaged"):
        encoders.check(file, {"encoder": spec})


@pytest.mark.parametrize(
    ("encoder", "words"),
    [
        (ResNet(depth=10, width=16), "does not fit ResNet: .*shape"),
        (ResNet(depth=14, width=8), "does not fit ResNet"),
        (SimpleNamespace(), "SimpleNamespace has no `namings`"),
    ],
)
def test_another_architecture_is_refused(file, encoder, words):
    known = encoder if isinstance(encoder, ResNet) else ResNet(depth=10, width=8)
    with pytest.raises(UserError, match=words):
        encoders.read(file, encoder, template_of(state_of(known)))


def test_a_truncated_file_is_refused(file):
    file.write_bytes(file.read_bytes()[:-9])
    encoder = ResNet(depth=10, width=8)
    with pytest.raises(UserError, match=r"not a .safetensors weights file, or damaged"):
        encoders.read(file, encoder, template_of(state_of(encoder)))


def test_keys_that_are_not_used_are_all_named_in_few_words():
    keys = ["bn1.count", "layer1.0.bn1.count", "layer1.1.bn2.count", "fc.1.bias"]
    assert encoders.folded(keys) == "bn1.count, layer*.*.bn*.count (2), fc.1.bias"
    assert encoders.folded([]) == ""


def test_names_are_files_or_packages(file, monkeypatch, tmp_path):
    assert encoders.find(str(file)) == file
    with pytest.raises(UserError, match=r"no file nothing\.pth; packages are efficientnet-lite0"):
        encoders.find("nothing.pth")
    missing = encoders.Package("no-such-package", "x.pth", "0")
    monkeypatch.setitem(encoders.PACKAGES, "mine", missing)
    with pytest.raises(
        UserError, match=r"is not installed; run `pip install 'segen\[pretrained\]'`"
    ):
        encoders.find("mine")


def test_a_package_with_another_file_is_refused(monkeypatch):
    other = encoders.Package("numpy", "numpy/version.py", "0")
    monkeypatch.setitem(encoders.PACKAGES, "mine", other)
    with pytest.raises(UserError, match="is not the file that was tried"):
        encoders.find("mine")
