"""Label maps made into images, and found in them again by a segmenter."""

from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from launch.config.errors import UserError
from launch.data import batches
from launch.scoring import segmenter_metrics
from launch.scoring.features import weights_hash
from tests.launch.scoring import stand_ins

WORKDIR = Path("/runs/reader")


def masks(split):
    """Masks of two classes and images of them: class 1 is white, except in a corner."""
    rng = np.random.default_rng(len(split))
    ids = rng.integers(0, 2, (30, 6, 6, 1)).astype(np.uint8)
    images = ids * np.full(3, 255, np.uint8)
    images[:, :3, :3] = 0
    return {"image": images, "segmentation": ids}


def restored(**changes):
    """A run that paints class 1 at 60 % and class 0 at 1.2: brighter than white."""

    def complete(state, batch):
        paint = jnp.where(batch["segmentation"] == 1, 0.6, 1.2)
        return jnp.broadcast_to(paint, (*paint.shape[:3], 3))

    section = stand_ins.data_section()
    section.name = f"{__name__}:masks"
    data = batches.open_data(section, "test")
    experiment = stand_ins.experiment(given="segmentation", complete=jax.jit(complete))
    experiment.example = data.example
    values = {"experiment": experiment, "data": data, "state": 0, "step": 3} | changes
    return SimpleNamespace(config=SimpleNamespace(task=SimpleNamespace(name="mine")), **values)


def segmenter(level=153):
    """A segmenter that takes what has exactly this level for class 1."""

    def eval_step(state, batch):
        right = jnp.mean((batch["image"][..., :1] == level) == batch["segmentation"], (1, 2, 3))
        return {"right": jnp.sum(right * batch["mask"]), "count": jnp.sum(batch["mask"] * 1.0)}

    run = restored(state={"w": np.ones(2)})
    run.experiment.compiled.eval_step = jax.jit(eval_step)
    run.experiment.compiled.predict = True
    run.experiment.task.finish = lambda sums: {"accuracy": sums["right"] / sums["count"]}
    return run


@pytest.mark.parametrize("batch_size", [8, 64])
def test_a_segmenter_scores_completed_and_real_images(batch_size):
    results = segmenter_metrics.segmenter_metrics(restored(), segmenter(), batch_size, 20)
    real = masks("test")
    right = (real["image"][:20, ..., :1] == 153) == real["segmentation"][:20]
    # The mean of 0.6 * 255 is rounded to level 153, and what is brighter than white is white.
    assert results == pytest.approx(
        {"segmenter/accuracy": 1.0, "segmenter/real/accuracy": right.mean()}
    )
    white = segmenter_metrics.segmenter_metrics(restored(), segmenter(255), batch_size, 20)
    right = (real["image"][:20, ..., :1] == 255) == real["segmentation"][:20]
    assert white == pytest.approx(
        {"segmenter/accuracy": 0.0, "segmenter/real/accuracy": right.mean()}
    )


def test_the_card_names_the_segmenter_and_its_weights():
    card = segmenter_metrics.segmenter_card(segmenter(), WORKDIR, 20)
    weights = weights_hash({"w": np.ones(2)})
    assert card == {"workdir": str(WORKDIR), "step": 3, "weights": weights, "images": 20}


def test_a_segmenter_that_does_not_fit_is_refused():
    check = segmenter_metrics.check_segmenter
    own = segmenter()
    check(restored(), own, WORKDIR)
    own.experiment.example = {"image": jax.ShapeDtypeStruct((6, 7, 3), np.uint8)}
    with pytest.raises(UserError, match=r"trained on `image` \[6, 7, 3\]; .*test has \[6, 6, 3\]"):
        check(restored(), own, WORKDIR)
    own.experiment.example = {"depth": jax.ShapeDtypeStruct((6, 6, 1), np.float32)}
    with pytest.raises(UserError, match=r"/runs/reader was trained on `depth` .* has none"):
        check(restored(), own, WORKDIR)
    own.experiment.compiled.predict = None
    with pytest.raises(UserError, match="/runs/reader: mine does not label images"):
        check(restored(), own, WORKDIR)


@pytest.mark.parametrize(
    ("known", "needed"), [((), ("a", "b")), (("a", "b"), ()), (("a", "b"), ("a", "b"))]
)
def test_classes_must_agree_where_both_have_names(known, needed):
    named = lambda classes: SimpleNamespace(split=SimpleNamespace(classes=classes, title="here"))
    own, run = segmenter(), restored(data=named(needed))
    own.data = named(known)
    segmenter_metrics.check_segmenter(run, own, WORKDIR)
    own.data = named(("b", "a"))
    if needed:
        with pytest.raises(UserError, match="knows the classes b, a; the masks have a, b"):
            segmenter_metrics.check_segmenter(run, own, WORKDIR)
