"""Which encoder a file is for, told by its tensors."""

import numpy as np
import pytest

from launch.config.errors import UserError
from launch.weights import recognition
from tests.tools import encoder_parity as parity

# Nets as those of real files, with 8 channels. Their golden tensors are random numbers.
NETS = (
    "small_resnet10",
    "small_resnet14_transformers",
    "small_lite0",
    "small_convnext_timm",
    "small_mit_original",
    "small_dinov2_original",
    "small_dinov2_registers_timm",
)


@pytest.fixture
def small(monkeypatch):
    """Known are the small nets instead of those of usual sizes."""
    spec = lambda name, attributes: {"name": f"jaxseg.nets.encoders:{name}"} | attributes
    known = {net: spec(*parity.CASES[net]) for net in NETS}
    monkeypatch.setattr(recognition, "KNOWN", known)
    return known


def write(path, tensors):
    np.savez(path, **tensors)
    return path


@pytest.mark.parametrize("net", NETS)
def test_every_architecture_and_size_is_told_from_the_others(tmp_path, small, net):
    tensors = parity.golden(net)[0]
    found = recognition.recognise(write(tmp_path / "net.npz", tensors))
    assert (found.title, found.spec) == (net, small[net])


def test_what_wraps_a_net_does_not_hide_it(tmp_path, small):
    tensors = parity.golden("small_resnet10")[0]
    wrapped = {f"module.net.{key}": value for key, value in tensors.items()}
    path = write(tmp_path / "net.npz", wrapped | {"module.net.fc.bias": np.zeros(3)})
    assert recognition.recognise(path).title == "small_resnet10"


def test_a_file_of_no_encoder_is_refused_with_those_that_are_known(tmp_path):
    path = write(tmp_path / "net.npz", {"lstm.w1": np.zeros(3), "lstm.w2": np.zeros(3)})
    words = r"net.npz is of no encoder .*ResNet-18, .*DINOv2 .*its tensors are lstm.w\* \(2\)"
    with pytest.raises(UserError, match=words):
        recognition.recognise(path)


def test_a_known_net_with_other_tensors_is_refused_with_the_reason(tmp_path, small):
    tensors = parity.golden("small_resnet10")[0]
    without = {key: value for key, value in tensors.items() if key != "bn1.bias"}
    words = r"nothing fills params/stem_norm/bias. small_resnet10 is the nearest of .*:ResNet and"
    with pytest.raises(UserError, match=words):
        recognition.recognise(write(tmp_path / "net.npz", without))
    path = tmp_path / "cut.npz"
    path.write_bytes(write(tmp_path / "net.npz", tensors).read_bytes()[:-9])
    with pytest.raises(UserError, match=r"cut.npz is not a .npz weights file, or damaged"):
        recognition.recognise(path)
