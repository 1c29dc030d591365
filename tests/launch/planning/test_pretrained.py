"""The net that weights of the user decide, before a plan and its flags."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from launch.config import loading, planned, run_config
from launch.config.errors import UserError
from launch.engine import experiments
from launch.planning import pretrained
from launch.weights import recognition
from tests.launch.planning.small import SEGMENT, plan
from tests.tools import encoder_parity as parity

RESNET = {"name": "jaxseg.nets.encoders:ResNet", "depth": 10, "width": 8}


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A file of a small ResNet, which is known."""
    monkeypatch.setattr(recognition, "KNOWN", {"ResNet-10": RESNET})
    np.savez(tmp_path / "net.npz", **parity.golden("small_resnet10")[0])
    return f"--config.encoder.weights={tmp_path / 'net.npz'}"


def override(*flags, variant=""):
    return loading.override(loading.load(SEGMENT + variant), list(flags))


def test_the_plan_trains_the_encoder_that_the_file_fits(root, weights, caplog):
    caplog.set_level("INFO", "segen")
    config = plan(root, weights)
    assert config.model.encoder.to_dict() == RESNET
    assert config.optimizer.learning_rate.decay_steps == config.train.steps > 0
    assert not planned.unset(config)
    words = "ResNet-10, pretrained, and UNetDecoder  (net.npz has its tensors, by the names of "
    assert f"plan: net            {words}torchvision" in caplog.text


def test_all_but_the_encoder_is_as_in_lite0(weights):
    given, lite0 = override(weights).to_dict(), loading.load(f"{SEGMENT}:lite0").to_dict()
    lite0["encoder"]["weights"] = weights.partition("=")[2]
    lite0["model"]["encoder"] = RESNET
    assert given == lite0
    labels = override(weights, variant=":labels")
    assert labels.model.encoder.depth == 10
    assert labels.task.name == "jaxseg.multilabel:multilabel"


def test_flags_change_what_the_weights_decide(weights):
    flags = ["--config.model.encoder.stochastic_depth=0.1", "--config.optimizer.encoder=0.3"]
    config = override(weights, *flags)
    assert config.model.encoder.stochastic_depth == 0.1
    assert config.optimizer.encoder == 0.3


def test_a_net_of_the_users_stays(weights):
    own = "--config.model.encoder.name=jaxseg.nets.encoders:ConvNeXt"
    config = override(weights, own, variant=":lite0")
    assert config.model.encoder.name.endswith(":ConvNeXt")
    with pytest.raises(UserError, match=r"no effect: config.model has no encoder"):
        override(weights, "--config.model.name=jaxseg.nets:UNet")
    assert override("--config.encoder.weights=").model.name == "jaxseg.nets:UNet"


def test_a_run_goes_on_with_the_net_that_it_began_with(root, weights, tmp_path):
    first = plan(root, weights)
    (tmp_path / "config.json").write_text(run_config.to_json(first))
    again = run_config.check_continues(tmp_path, override(weights, f"--config.data.path={root}"))
    assert run_config.differences(first, again) == []
    assert planned.unset(again) == []
    with pytest.raises(UserError, match=r"holds a run with another config:\n .*weights: "):
        run_config.check_continues(tmp_path, override(f"--config.data.path={root}"))


def test_a_file_of_no_encoder_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    for name, words in (("other", "is of no encoder that is known"), ("nothing", "no file")):
        with pytest.raises(UserError, match=words):
            override(f"--config.encoder.weights={tmp_path / name}.npz")


@pytest.mark.parametrize("title", ["ResNet-18", "ConvNeXt-T", "MiT-B0", "DINOv2 ViT-S/14"])
def test_every_known_encoder_has_a_decoder_that_takes_its_maps(monkeypatch, tmp_path, title):
    found = recognition.Recognised(title, recognition.KNOWN[title], "timm")
    monkeypatch.setattr(recognition, "recognise", lambda path: found)
    path = tmp_path / "net.npz"
    path.touch()
    model = pretrained.net(str(path))["model"]
    net = experiments.make_net(model, "config.model").clone(classes=2)

    def run():
        x, index = jnp.zeros((1, 64, 64, 3)), jnp.zeros(1, jnp.int32)
        return net.init_with_output(jax.random.key(0), x, index)[0]

    assert jax.eval_shape(run).shape == (1, 64, 64, 2)
