import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from launch.config.errors import UserError
from launch.engine import optimizer


def build(accumulate=1, axis_name=None, **spec):
    section = ConfigDict({"name": "optax:sgd", "learning_rate": 0.1, **spec})
    return optimizer.build(section, accumulate, axis_name)


def run(transformation, gradients, start):
    params, state = start, transformation.init(start)
    seen = []
    for gradient in gradients:
        updates, state = transformation.update({"w": gradient}, state, params)
        params = optax.apply_updates(params, updates)
        seen.append(np.asarray(params["w"]))
    return seen, state


GRADIENTS = [
    jnp.array([1.0, -2.0]),
    jnp.array([0.5, 0.5]),
    jnp.array([3.0, 1.0]),
    jnp.array([0.1, 9.0]),
]
START = {"w": jnp.array([1.0, 1.0])}


def test_the_moving_average_is_the_weighted_sum_by_hand():
    made, rates = build(ema=0.9)
    seen, state = run(made["optimizer"], GRADIENTS, START)
    average = np.asarray(START["w"])
    for count, params in enumerate(seen):
        decay = min(0.9, (1 + count) / (10 + count))
        average = decay * average + (1 - decay) * params
    np.testing.assert_allclose(optax.tree.get(state, "ema")["w"], average, rtol=1e-6)
    assert rates["learning_rate"](7) == pytest.approx(0.1)


def test_several_averages_are_those_of_each_decay():
    several = run(build(ema=(0.9, 0.2, 0.15))[0]["optimizer"], GRADIENTS, START)[1]
    found = [optax.tree.get(several, "ema"), *optax.tree.get(several, "other_ema")]
    for decay, average in zip((0.9, 0.2, 0.15), found, strict=True):
        alone = run(build(ema=decay)[0]["optimizer"], GRADIENTS, START)[1]
        np.testing.assert_allclose(average["w"], optax.tree.get(alone, "ema")["w"], rtol=1e-6)
    assert len({float(one["w"][1]) for one in found}) == 3


def test_clipping_is_by_the_global_norm():
    made, _ = build(clip_norm=1.0)
    seen, _ = run(made["optimizer"], GRADIENTS[:1], START)
    np.testing.assert_allclose(seen[0], 1.0 - 0.1 * np.array([1.0, -2.0]) / np.sqrt(5), rtol=1e-6)


def test_accumulation_is_one_update_with_the_mean_gradient():
    made, _ = build(accumulate=2, ema=0.5, name="optax:adam")
    plain, _ = build(ema=0.5, name="optax:adam")
    seen, state = run(made["optimizer"], GRADIENTS, START)
    means = [(GRADIENTS[0] + GRADIENTS[1]) / 2, (GRADIENTS[2] + GRADIENTS[3]) / 2]
    expected, wanted = run(plain["optimizer"], means, START)
    np.testing.assert_allclose(seen[1::2], expected, rtol=1e-6)
    np.testing.assert_array_equal(seen[0], START["w"])
    np.testing.assert_allclose(
        optax.tree.get(state, "ema")["w"], optax.tree.get(wanted, "ema")["w"], rtol=1e-6
    )


def test_gradients_are_averaged_over_a_mapped_axis():
    made, _ = build(axis_name="devices")
    state = made["optimizer"].init(START)
    update = lambda g: made["optimizer"].update({"w": g}, state, START)[0]["w"]
    found = jax.vmap(update, axis_name="devices")(jnp.stack(GRADIENTS))
    expected = -0.1 * jnp.stack(GRADIENTS).mean(0)
    np.testing.assert_allclose(found, jnp.broadcast_to(expected, found.shape), rtol=1e-6)


def test_schedules_and_several_optimisers_by_name():
    schedule = {
        "name": "optax:linear_schedule",
        "init_value": 1.0,
        "end_value": 0.0,
        "transition_steps": 10,
    }
    section = ConfigDict(
        {
            "generator": {"name": "optax:adam", "learning_rate": schedule},
            "discriminator": {"name": "optax:sgd", "learning_rate": 0.5},
        }
    )
    made, rates = optimizer.build(section)
    assert set(made) == {"generator_optimizer", "discriminator_optimizer"}
    state = made["discriminator_optimizer"].init(START)
    assert not optax.tree.get_all_with_path(state, "mini_step")  # nothing is accumulated
    assert rates["learning_rate/generator"](5) == pytest.approx(0.5)
    assert rates["learning_rate/discriminator"](5) == pytest.approx(0.5)


def test_without_clip_norm_and_ema_the_optimiser_is_the_users_own():
    made, _ = build()
    seen, state = run(made["optimizer"], [jnp.array([30.0, -40.0])], START)
    np.testing.assert_allclose(seen[0], [-2.0, 5.0])
    assert optax.tree.get(state, "ema") is None
    assert optax.tree.get(state, "mini_step") is None


def test_a_learning_rate_is_needed():
    with pytest.raises(UserError, match=r"config\.optimizer\.learning_rate is missing"):
        optimizer.build(ConfigDict({"name": "optax:sgd"}))
    with pytest.raises(UserError, match='expected a mapping with a "name"'):
        optimizer.build(ConfigDict())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"ema": 1.5}, "ema=1.5"),
        ({"ema": 1.0}, "ema=1.0"),
        ({"ema": -0.1}, "ema=-0.1"),
        ({"clip_norm": -1.0}, "clip_norm=-1.0"),
        ({"clip_norm": "1"}, "clip_norm='1' must be >= 0"),
        ({"ema": None}, r"ema=None in \[0, 1\)"),
        ({"ema": (0.9, 1.0)}, r"ema=\(0.9, 1.0\) in \[0, 1\)"),
        ({"ema": (0.9, 0.9)}, "several decays must be different"),
        ({"ema": (0.9, 0.0)}, "several decays must be different, and none 0"),
        ({"ema": 0.9, "power_ema": (0.5,)}, "widths above 0, at most 0.28"),
        ({"power_ema": (0.1,)}, "beside an average; give ema above 0"),
        ({"momentun": 0.9}, "did you mean 'momentum'"),
        ({"name": "optax:adamm"}, "did you mean 'adam'|has no attribute 'adamm'"),
    ],
)
def test_mistakes_are_named(spec, message):
    with pytest.raises(UserError, match=message):
        build(**spec)


@pytest.mark.parametrize(
    ("rate", "message"),
    [
        (-1e-3, r"config.optimizer.learning_rate must be .* 0 or more; it is -0.001$"),
        (float("nan"), r"it is nan$"),
        (float("inf"), r"it is inf$"),
        ("0.1", r"it is '0.1'$"),
        (
            {"name": "optax:linear_schedule", "init_value": 1e-3, "end_value": -1.0}
            | {"transition_steps": 100},
            r"learning_rate must be .*; it is -0.00\d+ at step 1$",
        ),
        (
            {"name": "tests.launch.engine.test_optimizer:late"},
            r"it is -2.0 at step 16,777,216$",
        ),
        (
            {"name": "tests.launch.engine.test_optimizer:failing"},
            r"config.optimizer.learning_rate: the schedule fails: KeyError: 'warm'$",
        ),
    ],
)
def test_a_learning_rate_that_cannot_train_is_refused(rate, message):
    with pytest.raises(UserError, match=message):
        build(learning_rate=rate)


def late():
    return lambda step: jnp.where(step > 10_000_000, -2.0, 1.0)


def failing():
    return lambda step: {}["warm"]


@pytest.mark.parametrize(
    "rate", [0, 0.0, 1, 0.5, {"name": "optax:constant_schedule", "value": 0.1}]
)
def test_a_learning_rate_may_be_0_or_any_schedule(rate):
    _, rates = build(learning_rate=rate)
    assert float(rates["learning_rate"](3)) == (0.1 if isinstance(rate, dict) else rate)


@pytest.mark.parametrize("one", ["optax:adam", 0.1, None])
def test_an_optimiser_without_arguments_is_named(one):
    spec = ConfigDict({"generator": one})
    with pytest.raises(UserError, match=r"config.optimizer.generator: expected a mapping with a"):
        optimizer.build(spec)
