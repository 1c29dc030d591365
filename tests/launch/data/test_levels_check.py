import logging

import numpy as np
import pytest
from sklearn.datasets import load_digits

from launch.config import loading
from launch.config.errors import UserError
from launch.data.builtin import digits
from launch.data.levels_check import check_levels, levels_of
from launch.data.sources import Split

BITS = {"name": "jaxgen.flow:flow", "levels": 2}
BYTES = BITS | {"levels": 256}
VAE = {"name": "jaxgen.vae:vae"}
RNG = np.random.default_rng(0)


def split_of(images):
    return Split([{"image": image} for image in images], len(images), "mine train")


def checked(task, images, caplog):
    """What is said of images in memory, and of the same that stream."""
    split, said = split_of(images), []
    for arrays in ({"image": images}, None):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "segen"):
            check_levels(task, split, arrays)
        said.append(caplog.text)
    assert said[0] == said[1]
    return said[0]


def grey(low, high, channels=1):
    return RNG.integers(low, high, (50, 8, 8, channels)).astype(np.uint8)


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (BITS, r"config\.task\.levels=2 draws .* Give --config\.task\.levels=256$"),
        (VAE, r"likelihood\.name=jaxgen\.likelihoods:bernoulli draws .*:discretized_logistic$"),
        ({"name": "jaxgen.autoregressive:pixel_rnn"}, r"likelihoods:binary .*:logistic_mixture$"),
    ],
    ids=["flow", "vae", "rnn"],
)
def test_grey_images_have_no_two_levels(task, words, caplog):
    for images in (grey(40, 220), grey(40, 220, channels=3)):
        with pytest.raises(UserError, match=rf"^mine train: .*{words}"):
            checked(task, images, caplog)
    with pytest.raises(UserError, match=words):
        check_levels(task, split_of(images), None)


def test_the_mean_of_4_p_1_minus_p_decides(caplog):
    """Black, white, and the middle 127.5: 0, 0, and nearly 1."""
    for share, fits in ((30, True), (34, False)):
        images = np.zeros((1, 8, 8, 1), np.uint8)
        images.flat[:share] = 128
        images.flat[50:] = 255
        if fits:
            assert not checked(BITS, images, caplog)
        else:
            with pytest.raises(UserError, match=r"is 0\.53; 0\.5 at most"):
                checked(BITS, images, caplog)


def test_images_that_suit_are_not_spoken_of(caplog):
    counts = load_digits().images[:50, ..., None]
    own = np.round(counts * 255 / digits.LEVELS).astype(np.uint8)
    for task in (BITS, VAE):
        assert not checked(task, own, caplog)
        assert not checked(task, 255 * grey(0, 2), caplog)
        assert not checked(task, np.repeat(255 * grey(0, 2), 3, -1), caplog)  # grey as colours
    assert not checked(BYTES, grey(0, 256), caplog)
    assert not checked(BYTES, grey(0, 17)[:4], caplog)  # too few values to tell
    for task in ({"name": "my.own:task"}, BITS | {"levels": 0}, VAE | {"codec": {"name": "a:b"}}):
        assert not checked(task, grey(40, 220), caplog)
    check_levels(BITS, split_of([]), None)
    check_levels(BITS, split_of(grey(40, 220).astype(np.float32)), None)


def test_few_levels_of_256_are_said(caplog):
    said = checked(BYTES, 15 * grey(0, 17), caplog)
    assert "the images have 17 of the 256 levels of config.task.levels=256. A model can" in said
    exact = BITS | {"levels": 0, "likelihood": {"name": "jaxgen.flows:density"}}
    assert "17 of the 256 levels of config.task.likelihood.name=jaxgen.flows:density" in checked(
        exact, 15 * grey(0, 17), caplog
    )


def test_colours_of_two_levels_are_said(caplog):
    assert "each channel of a colour" in checked(BITS, 255 * grey(0, 2, channels=3), caplog)


@pytest.mark.parametrize(
    ("spec", "levels"),
    [
        ("configs/flow.py", 0),
        ("configs/flow.py:vdm", 2),
        ("configs/flow.py:latent", 0),
        ("configs/vae.py", 2),
        ("configs/vae.py:ladder", 2),
        ("configs/vae.py:folder", 256),
        ("configs/rnn.py", 2),
        ("configs/rnn.py:mixture", 256),
        ("configs/rnn.py:folder", 256),
        ("configs/rnn.py:codes", 0),
        ("configs/gan.py", 0),
    ],
)
def test_the_levels_of_our_configs(spec, levels):
    assert levels_of(loading.load(spec).task)[0] == levels
