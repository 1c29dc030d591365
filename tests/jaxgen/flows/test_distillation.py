"""A trained flow as a teacher: it gives what it knows, to those whom it fits."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgen import flows
from jaxgen.flows import mean_velocity
from jaxgen.flows.paths import noisy
from tests.jaxgen.flows.small import KEY, SHAPE, far_from_zero, make_batch, make_task, model_of

ANY = mean_velocity.Teacher(lambda z, t, condition: z, SHAPE)


def student(teacher, **kwargs):
    return make_task(mean_flow=mean_velocity.mean_flow(teacher=teacher), **kwargs)


def noisy_batch(t):
    x, noise = jax.random.normal(KEY, (2, 8, *SHAPE))
    return noisy(x, noise, t)


@pytest.mark.parametrize("mean_flow", [None, mean_velocity.mean_flow()])
@pytest.mark.parametrize("classes", [0, 2])
def test_a_teacher_gives_the_clean_image_by_its_moving_average(classes, mean_flow):
    average = optax.chain(optax.sgd(0.1), optax.GradientTransformation(Average, Average.update))
    task = make_task(average, classes=classes, mean_flow=mean_flow)
    state = far_from_zero(task, make_batch())
    other = far_from_zero(task, make_batch(), seed=1).params
    state = state._replace(opt_state=optax.tree.set(state.opt_state, ema=other))
    t, model = jnp.linspace(0.1, 0.9, 8), model_of(task)
    condition = jnp.eye(3)[np.arange(8) % 3] if classes else None
    z, seen = noisy_batch(t), condition
    if mean_flow:  # the net sees no time ahead, which is 8 zeros
        seen = jnp.concatenate([*([] if seen is None else [seen]), jnp.zeros((8, 8))], -1)
    wanted = model.net.apply({"params": other}, z, t, seen)
    if mean_flow:
        wanted = mean_velocity.bounded(wanted, z, t)
    teacher = task.teacher(state)
    np.testing.assert_allclose(teacher.denoise(z, t, condition), wanted, rtol=1e-5, atol=1e-5)
    assert (teacher.shape, teacher.classes, teacher.codec) == (SHAPE, classes, None)


class Average:
    """An optimiser's state with another tree of parameters under the name `ema`."""

    def __new__(cls, params):
        return {"ema": params}

    @staticmethod
    def update(updates, state, params=None):
        return updates, state


@pytest.mark.parametrize("classes", [0, 2])
def test_a_flow_that_is_its_own_teacher_has_nothing_to_learn(classes):
    """Where the second time is the first; with the classes that its net is given, and without."""
    options = {"classes": classes, "class_dropout": 0.5, "density": flows.log_snr(-4.0, 4.0)}
    alone, batch = make_task(mean_flow=mean_velocity.mean_flow(), **options), make_batch()
    state, other = (far_from_zero(alone, batch, seed) for seed in range(2))

    def loss(teacher):
        one_time = mean_velocity.mean_flow(share=1e-6, power=0.0, teacher=teacher)
        return make_task(mean_flow=one_time, **options).train_step(state, batch, KEY)[1]["loss"]

    assert float(loss(alone.teacher(state))) < 1e-6
    assert float(loss(alone.teacher(other))) > 0.1
    assert float(loss(None)) > 0.1


@pytest.mark.parametrize(
    ("changes", "options", "words"),
    [
        ({"shape": (8, 8, 1)}, {}, r"it is for images \(8, 8, 1\); these are \(4, 4, 1\)"),
        ({"codec": object()}, {}, "it models latents of a codec, and this flow pixels"),
        ({"levels": 2}, {}, "levels=2, and this flow levels=0"),
        ({}, {"levels": 2, "parametrisation": flows.binary()}, "levels=0, and this flow levels=2"),
        ({"classes": 3}, {"classes": 2}, "classes=3, and this flow classes=2"),
        ({"classes": 2}, {}, "classes=2, and this flow classes=0"),
        ({"classes": 2}, {"classes": 2}, "never trained without classes .* give 0"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused(changes, options, words):
    with pytest.raises(ValueError, match=f"teacher: .*{words}"):
        student(ANY._replace(**changes), **options)


def test_a_teacher_that_fits_is_taken():
    student(ANY._replace(levels=256))
    student(ANY._replace(classes=2), classes=2, class_dropout=0.0)
    student(ANY._replace(classes=2, class_dropout=0.1), classes=2)
