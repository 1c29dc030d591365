import jax
import numpy as np
import pytest

from jaxgen import flows
from jaxgen.flow import train_terms
from tests.jaxgen.flows.small import KEY, far_from_zero, make_batch, make_task, model_of
from tests.jaxgen.optimizers import adam


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"parametrisation": flows.preconditioned(), "weight": flows.edm(), "classes": 2},
        {"parametrisation": flows.binary(), "weight": flows.bound(), "levels": 2},
    ],
    ids=["velocity", "edm", "bound"],
)
def test_training_lowers_the_loss(kwargs):
    task, batch = make_task(adam(3e-3), **kwargs), make_batch(16)
    batch["image"] = np.where(batch["image"][:1] > 127, 255, 0).repeat(16, 0).astype(np.uint8)
    state, losses = task.init(KEY, batch), []
    for step in range(150):
        state, sums = task.train_step(state, batch, jax.random.fold_in(KEY, step))
        losses.append(task.finish(jax.device_get(sums))["loss"])
    assert np.mean(losses[-20:]) < 0.5 * np.mean(losses[:5])
    if not kwargs:
        image = task.sample(state, {"index": np.arange(4), "label": np.zeros(4, int)}, KEY)
        assert np.abs(image - batch["image"][:4] / 255).mean() < 0.25


def test_the_loss_does_not_depend_on_the_batch():
    task, batch = make_task(), make_batch()
    state, some = far_from_zero(task, batch), np.array([5, 2])
    part = {name: leaf[some] for name, leaf in batch.items()}
    model = model_of(task)
    whole = train_terms(model, state.params, batch, KEY)["loss"][some]
    np.testing.assert_allclose(
        train_terms(model, state.params, part, KEY)["loss"], whole, rtol=1e-5
    )


def test_the_loss_by_time_adds_up():
    task, batch = make_task(), make_batch(64)
    batch["mask"][40:] = False
    state = far_from_zero(task, batch)
    sums = jax.device_get(task.eval_step(state, batch, KEY))
    assert sums["count"] == sums["count_by_time"].sum() == 40
    assert sums["loss_by_time"].sum() == pytest.approx(sums["loss"], rel=1e-5)
    found = task.finish(sums)
    assert {"loss", "loss_t0.1", "loss_t0.5"} <= set(found)
    bin5 = sums["loss_by_time"][5] / sums["count_by_time"][5]
    assert found["loss_t0.5"] == pytest.approx(bin5)


def test_classes_are_dropped_at_their_share():
    task, batch = make_task(classes=2, class_dropout=0.5), make_batch(400)
    state = far_from_zero(task, batch)
    model = model_of(task)
    # The same noise and times, with the other class: rows that dropped theirs do not change.
    base = train_terms(model, state.params, batch, KEY)["loss"]
    other = train_terms(model, state.params, batch | {"label": 1 - batch["label"]}, KEY)["loss"]
    assert np.mean(np.asarray(base) == np.asarray(other)) == pytest.approx(0.5, abs=0.1)


def test_the_bound_is_a_metric_of_evaluations_with_levels():
    task, batch = make_task(levels=256), make_batch()
    state = far_from_zero(task, batch)
    found = task.finish(jax.device_get(jax.jit(task.score_step)(state, batch, KEY)))
    parts = found["prior"] + found["reconstruction"] + found["diffusion"]
    assert found["negative_elbo"] == pytest.approx(parts)
    assert found["bits_per_dim"] == pytest.approx(parts / 16 / np.log(2))
    assert make_task().score_step is None


def test_the_density_is_a_metric_of_scores_alone():
    task, batch = make_task(likelihood=flows.density(steps=4)), make_batch()
    state = far_from_zero(task, batch)
    assert "nll" not in task.eval_step(state, batch, KEY)
    found = task.finish(jax.device_get(jax.jit(task.score_step)(state, batch, KEY)))
    assert found["nll_bits_per_dim"] == pytest.approx(found["nll"] / 16 / np.log(2) + 8)


def test_pixels_are_kept_unless_whole_images_are_remade():
    assert make_task().keeps_pixels
    assert not make_task(start=0.5).keeps_pixels


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"levels": 7}, "levels must be"),
        ({"parametrisation": flows.binary()}, "levels=0: this parametrisation is for 2 levels"),
        ({"guidance": 2.0}, "needs classes"),
        ({"guidance": 2.0, "classes": 2, "class_dropout": 0.0}, "class_dropout above 0"),
        ({"class_dropout": 1.0}, "class_dropout=1.0"),
        ({"given_rows": 4}, "given_rows must be 0 to 3, got 4"),
        ({"given_rows": -1}, "given_rows must be 0 to 3, got -1"),
        ({"levels": 2, "likelihood": flows.density()}, "have no density"),
        ({"likelihood": flows.heun()}, "likelihood: takes a Density .*, not a Sampler"),
        ({"sampler": flows.density()}, "sampling.sampler: takes a Sampler .*, not a Density"),
        ({"weight": flows.uniform()}, "weight: takes a Weight .*, not a Times"),
        ({"classes": 2, "label": None}, "integer `label`"),
        ({"shape": (4, 4)}, "uint8"),
    ],
)
def test_what_cannot_work_is_refused(kwargs, words):
    with pytest.raises(ValueError, match=words):
        make_task(**kwargs)
