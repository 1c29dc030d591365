"""The parts of a score card; `tests/launch/test_evaluate.py` checks the whole by the command."""

from types import SimpleNamespace

import numpy as np

from launch.scoring import score_card
from tests.launch.exported import families


def test_classes_are_asked_for_by_turns():
    samples = SimpleNamespace(classes=np.array([0, 1, 2, 0, 2]))
    assert score_card._class_agreement(samples, 3, 3) == {"class_agreement": 0.8}
    assert score_card._class_agreement(samples, 10, 3) == {}
    assert score_card._class_agreement(samples, 0, 0) == {}


def test_the_card_says_how_images_were_sampled():
    restored = families.restored_of("flow", **{"task.sampling.guidance": 3.0})
    options = SimpleNamespace(samples=8, completions=False)
    sampling = score_card._card(restored, options, 8, None)["sampling"]
    assert (sampling["guidance"], sampling["grid"]["steps"]) == (3.0, 3)
    assert sampling["sampler"] == {"name": "jaxgen.flows:heun"}
    options.samples = None
    assert "sampling" not in score_card._card(restored, options, 8, None)
    gan = families.restored_of("gan")
    options.samples = 8
    assert "sampling" not in score_card._card(gan, options, 8, None)
