import jax
import numpy as np
import pytest

from launch import evaluate, sample, train
from launch.config.errors import UserError
from launch.inference import codecs, teachers

SMALL = "--config.train.steps=20 --config.eval.every=20 --config.checkpoint.every=20"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("codec")
    flags = [*SMALL.split(), "--config.model.encoder.widths=(4,8)", f"--workdir={folder / 'auto'}"]
    train.main(["--config=configs/autoencoder.py", *flags, "--config.model.decoder.widths=(4,8)"])
    return f"{folder / 'auto'}:20"


def test_a_flow_of_latents_trains_and_makes_images(run, tmp_path, capsys):
    codec = codecs.codec(run)
    assert codec.shape == (4, 4, 3)
    flags = [*SMALL.split(), f"--config.task.codec.run={run}", "--config.model.width=16"]
    train.main(
        [
            "--config=configs/flow.py:latent",
            *flags,
            "--config.model.layers=1",
            f"--workdir={tmp_path}",
        ]
    )
    out = tmp_path / "images.npy"
    sample.main([f"--workdir={tmp_path}", f"--out={out}", "--seeds=0-2", "--steps=2"])
    images = np.load(out)
    assert images.shape == (3, 8, 8, 1)
    assert np.ptp(images) > 0
    evaluate.main([f"--workdir={tmp_path}"])
    assert "loss_t0.5" in capsys.readouterr().out
    # Of a teacher of latents and its student it is one codec.
    assert teachers.teacher(f"{tmp_path}:20").codec is codec


def test_a_pixelcnn_of_the_codes_trains_and_makes_images(tmp_path, capsys):
    widths = [f"--config.model.{net}.widths=(4,8)" for net in ("encoder", "decoder")]
    auto = [*SMALL.split(), *widths, f"--workdir={tmp_path / 'auto'}"]
    train.main(["--config=configs/autoencoder.py:fsq", *auto])
    flags = [*SMALL.split(), f"--config.task.codec.run={tmp_path / 'auto'}:20"]
    small = ["--config.model.layers=1", "--config.model.features=4", "--config.model.head=8"]
    train.main(["--config=configs/rnn.py:codes", *flags, *small, f"--workdir={tmp_path / 'rnn'}"])
    out = tmp_path / "images.npy"
    sample.main([f"--workdir={tmp_path / 'rnn'}", f"--out={out}", "--seeds=0-2"])
    images = np.load(out)
    assert images.shape == (3, 8, 8, 1)
    assert np.ptp(images) > 0
    evaluate.main([f"--workdir={tmp_path / 'rnn'}"])
    assert '"code_bits"' in capsys.readouterr().out


def test_a_flow_of_the_latents_of_a_vae_trains_and_makes_images(tmp_path):
    widths = [f"--config.model.{net}.widths=(16,)" for net in ("encoder", "decoder")]
    flags = [*SMALL.split(), "--config.train.steps_per_dispatch=10"]
    train.main(["--config=configs/vae.py", *flags, *widths, f"--workdir={tmp_path / 'vae'}"])
    flags += [f"--config.task.codec.run={tmp_path / 'vae'}:20", f"--workdir={tmp_path / 'flow'}"]
    small = ["--config.model.width=16", "--config.model.layers=1"]
    train.main(["--config=configs/flow.py:vector", *flags, *small])
    out = tmp_path / "images.npy"
    sample.main([f"--workdir={tmp_path / 'flow'}", f"--out={out}", "--seeds=0-2", "--steps=2"])
    assert np.ptp(np.load(out)) > 0


def test_what_is_no_auto_encoder_is_refused(tmp_path):
    with pytest.raises(UserError, match="give a trained auto-encoder as DIR:STEP"):
        codecs.codec("")
    with pytest.raises(UserError, match="give the step too, as runs/autoencoder:2000"):
        codecs.codec(str(tmp_path / "nothing"))
    with pytest.raises(UserError, match="nothing"):
        codecs.codec(f"{tmp_path / 'nothing'}:20")
    flags = [*SMALL.split(), "--config.model.width=16", f"--workdir={tmp_path / 'flow'}"]
    train.main(["--config=configs/flow.py", "--config.model.layers=1", *flags])
    with pytest.raises(UserError, match="flow:flow has no latents"):
        codecs.codec(f"{tmp_path / 'flow'}:20")


def test_a_step_is_part_of_a_codec(run):
    with pytest.raises(UserError, match=r"give the step too, as .*auto:20"):
        codecs.codec(run.rpartition(":")[0])


def test_images_of_another_shape_are_refused(run):
    from jaxgen.flow import flow
    from jaxgen.nets import ImageTransformer
    from tests.jaxgen.optimizers import adam

    example = {"image": jax.ShapeDtypeStruct((28, 28, 1), np.uint8)}
    with pytest.raises(ValueError, match=r"is for images \(8, 8, 1\); these are \(28, 28, 1\)"):
        flow(ImageTransformer(1), adam(1e-3), example, codec=codecs.codec(run))
