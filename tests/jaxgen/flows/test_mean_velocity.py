"""The mean velocity, beside that of normal images, which is known exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.flows import mean_velocity, paths, samplers
from jaxgen.flows.paths import like
from tests.jaxgen.flows.small import KEY, make_batch, make_task
from tests.jaxgen.flows.test_samplers import MEAN, STD, denoise, start
from tests.jaxgen.optimizers import adam


def exact(z, t, until):
    """x_hat of the exact mean velocity of N(MEAN, STD^2): along the flow z keeps its rank."""
    t, until = (like(jnp.asarray(one, jnp.float32), z) for one in (t, until))
    spread = lambda t: jnp.sqrt((t * STD) ** 2 + (1.0 - t) ** 2)
    there = until * MEAN + spread(until) / spread(t) * (z - t * MEAN)
    return z + (1.0 - t) / (until - t) * (there - z)


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_leaps_along_the_exact_mean_velocity_are_exact(steps):
    times, index = jnp.asarray(samplers.even_times(steps)), jnp.arange(64)
    found = samplers.run(samplers.leap(), exact, start(), times, KEY, index)
    np.testing.assert_allclose(found, MEAN + STD * start(), atol=1e-5)


@pytest.mark.parametrize(
    ("power", "times", "span"),
    [(0.0, (0.05, 0.6), 0.35), (1.0, (0.05, 0.6), 0.35), (0.0, (0.955, 0.99), 0.01)],
)
def test_the_exact_mean_velocity_has_the_least_loss(power, times, span):
    count = 4_000
    draw = lambda number: jax.random.normal(jax.random.fold_in(KEY, number), (count, 4, 4, 1))
    x, noise = MEAN + STD * draw(0), draw(1)
    t = jnp.linspace(*times, count)
    until = t + span
    options = mean_velocity.mean_flow(power=power)

    def loss(wrong):
        moved = lambda z, t, until: exact(z, t, until) + wrong * like(1.0 - t, z)
        return float(jnp.mean(mean_velocity.loss(options, moved, x, noise, t, until)))

    wrong = 0.3
    assert loss(wrong) > loss(0.0)
    assert loss(-wrong) > loss(0.0)
    if power == 0.0:  # a parabola, whose lowest point is at 0
        lowest = (loss(-wrong) - loss(wrong)) / (4 * wrong)
        assert lowest == pytest.approx(0.0, abs=0.02 * loss(wrong))
    if span > 0.1:  # another second time is told from this one
        away = lambda z, t, until: exact(z, t, t + 0.2)
        assert float(jnp.mean(mean_velocity.loss(options, away, x, noise, t, until))) > loss(0.0)


SHAPE = (2, 2, 1)
TEACHER = mean_velocity.Teacher(lambda z, t, condition: denoise(z, like(t, z)), SHAPE)


def test_by_an_exact_teacher_the_exact_mean_velocity_has_no_loss():
    # Any images and noise: an exact velocity is that of z, whatever pair z comes from.
    x, noise = 2.0 * start(64), jax.random.uniform(KEY, (64, *SHAPE))
    t = jnp.linspace(0.02, 0.94, 64)
    until = 0.5 * (t + 1.0)
    moved = lambda wrong: lambda z, t, until: exact(z, t, until) + wrong * like(1.0 - t, z)
    loss = lambda wrong, teacher: mean_velocity.loss(
        mean_velocity.mean_flow(power=0.0, teacher=teacher), moved(wrong), x, noise, t, until
    )
    np.testing.assert_allclose(loss(0.0, TEACHER), np.zeros(64), atol=1e-6)
    np.testing.assert_allclose(loss(0.3, TEACHER), np.full(64, 0.09), rtol=1e-3)
    assert float(loss(0.0, None).min()) > 0.01


def test_a_teacher_gives_the_velocity_but_near_the_image():
    x, noise = start(4), jax.random.normal(KEY, (4, *SHAPE))
    t, condition = jnp.array([0.0, 0.7, 0.94, 0.97]), jnp.arange(8.0).reshape(4, 2)
    teacher = TEACHER._replace(denoise=lambda z, t, condition: z * like(condition[:, 1] + t, z))
    z = like(t, x) * x + like(1.0 - t, x) * noise
    found = mean_velocity.velocity(teacher, x, noise, z, t, condition)
    wanted = (z * np.array([1.0, 3.7, 5.94, 0.0])[:, None, None, None] - z) / like(1.0 - t, z)
    np.testing.assert_allclose(found[:3], wanted[:3], rtol=1e-5)
    np.testing.assert_array_equal(found[3], (x - noise)[3])
    far = TEACHER._replace(denoise=lambda z, t, condition: jnp.full_like(z, jnp.inf))
    assert np.isfinite(mean_velocity.velocity(far, x, noise, z, jnp.full(4, 0.96), None)).all()
    np.testing.assert_array_equal(
        mean_velocity.velocity(None, x, noise, z, t, condition), x - noise
    )


def test_no_gradient_reaches_a_teacher():
    t, until = jnp.array([0.1, 0.5]), jnp.array([0.4, 1.0])
    x, noise = start(2), jax.random.normal(KEY, (2, *SHAPE))

    def loss(weight):
        teacher = TEACHER._replace(denoise=lambda z, t, condition: weight * z)
        options = mean_velocity.mean_flow(teacher=teacher, power=0.0)
        return mean_velocity.loss(options, exact, x, noise, t, until).sum()

    assert float(abs(loss(0.5) - loss(0.6))) > 1e-3
    assert float(jax.grad(loss)(0.5)) == 0.0


def test_velocities_near_the_image_are_bounded_in_training_and_sampling():
    t, x = jnp.array([0.5, 0.94, 0.98, 0.9999]), 0.3 * start(4)
    options = mean_velocity.mean_flow(power=0.0)
    off = lambda z, t, until: mean_velocity.bounded(x + 0.1, z, t)
    found = mean_velocity.loss(options, off, x, start(4), t, t)
    # Of a net that is off by 0.1 the velocity is; near the image it also falls short of x - e.
    v, left = x - start(4), like(1 - t, x)
    error = jnp.where(left < 0.05, (0.1 + left * v) / 0.05 - v, 0.1 / left)
    np.testing.assert_allclose(found, (error**2).mean((1, 2, 3)), rtol=2e-3)
    net = lambda c: lambda z, t, until: mean_velocity.bounded(x + c, z, t)
    at_one = lambda c: mean_velocity.loss(options, net(c), x, start(4), *jnp.ones((2, 4))).sum()
    assert np.isfinite(jax.value_and_grad(at_one)(0.1)).all()
    # A net that is trained for such velocities leads to the image, however short the last step is.
    exact = lambda z, t, until: z + like(jnp.maximum(1 - t, 0.05), z) * (x - start(4))
    bounded = lambda z, t, until: mean_velocity.bounded(exact(z, t, until), z, jnp.full(4, t))
    for times in ([0.0, 1.0], [0.0, 0.5, 0.98, 0.998, 1.0]):
        grid = jnp.asarray(times, jnp.float32)
        image = samplers.run(samplers.leap(), bounded, start(4), grid, KEY, jnp.arange(4))
        np.testing.assert_allclose(image, x, atol=1e-4)


def test_the_derivative_along_the_flow_is_that_of_small_steps():
    net = lambda z, t, until: jnp.sin(3.0 * z + like(t, z)) * like(until, z)
    x, noise = 0.3 * start(6), jax.random.normal(KEY, (6, 2, 2, 1))
    t, until = jnp.linspace(0.1, 0.7, 6), jnp.linspace(0.5, 0.9, 6)
    velocity = lambda z, t: (net(z, t, until) - z) / like(1.0 - t, z)
    z, v, step = like(t, x) * x + like(1.0 - t, x) * noise, x - noise, 1e-2
    slope = (velocity(z + step * v, t + step) - velocity(z - step * v, t - step)) / (2 * step)
    error = jnp.mean((velocity(z, t) - v - like(until - t, z) * slope) ** 2, (1, 2, 3))
    found = mean_velocity.loss(mean_velocity.mean_flow(power=0.0), net, x, noise, t, until)
    np.testing.assert_allclose(found, error, rtol=0.02)
    weighted = mean_velocity.loss(mean_velocity.mean_flow(power=1.0), net, x, noise, t, until)
    np.testing.assert_allclose(weighted, found / (found + 1e-3), rtol=1e-5)


def test_times_are_in_order_and_the_same_but_for_a_share():
    t, other, u = jax.random.uniform(KEY, (3, 5_000))
    options = mean_velocity.mean_flow(share=0.3, ends=0.5)
    early, late = mean_velocity.second_times(options, t, other, u)
    assert bool(jnp.all(early <= late))
    assert float(jnp.mean(early < late)) == pytest.approx(0.3, abs=0.03)
    assert float(jnp.mean(late == 1.0)) == pytest.approx(0.15, abs=0.02)
    np.testing.assert_array_equal(early[late == 1.0], t[late == 1.0])
    np.testing.assert_array_equal(early[early == late], t[early == late])


def test_a_second_time_that_is_the_first_shows_nothing():
    t = jnp.linspace(0.0, 0.9, 5)
    np.testing.assert_array_equal(mean_velocity.ahead(t, t), np.zeros((5, 8)))
    assert float(jnp.abs(mean_velocity.ahead(t, t + 0.1)).min()) > 0.05


@pytest.mark.parametrize("classes", [0, 2])
def test_a_task_samples_in_one_step(classes):
    options = mean_velocity.mean_flow(share=0.5)
    kwargs = {"mean_flow": options, "sampler": samplers.leap()}
    kwargs |= {"density": paths.logit_normal(-0.4, 1.6), "grid": samplers.karras_times(1)}
    task = make_task(adam(1e-2), classes=classes, **kwargs)
    batch = make_batch(16)
    batch["image"] = np.where(batch["image"][:1] > 127, 255, 0).repeat(16, 0).astype(np.uint8)
    state, seeds = task.init(KEY, batch), {"index": np.arange(4), "label": np.zeros(4, int)}
    # The loss has a target of its own making, so it is no measure; the images are.
    error = lambda state: np.abs(task.sample(state, seeds, KEY) - batch["image"][:4] / 255).mean()
    assert error(state) > 0.45
    for step in range(400):
        state, _ = task.train_step(state, batch, jax.random.fold_in(KEY, step))
    assert error(state) < 0.3


def test_what_cannot_work_is_refused():
    with pytest.raises(ValueError, match="leap is for a mean flow"):
        make_task(sampler=samplers.leap())
    for options in ({"share": 0.0}, {"power": -1.0}, {"ends": 1.5}):
        with pytest.raises(ValueError, match="mean_flow: share="):
            mean_velocity.mean_flow(**options)
