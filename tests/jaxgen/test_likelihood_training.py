import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen import likelihood_training

BATCH = {"x": jnp.array([1.0, 2.0, 3.0, 4.0]), "mask": np.array([True, True, True, False])}


def terms(params, batch, rng):
    return {"loss": (params["w"] * batch["x"] - 1.0) ** 2, "size": jnp.abs(batch["x"])}


def test_a_step_follows_the_mean_of_all_rows_and_sums_those_of_examples():
    start = likelihood_training.init(optax.sgd(0.1), lambda rng, batch: {"w": jnp.ones(())})
    state, sums = jax.jit(likelihood_training.train_step(optax.sgd(0.1), terms))(
        start(jax.random.key(0), BATCH), BATCH, jax.random.key(1)
    )
    slope = np.mean(2 * (np.array([1, 2, 3, 4]) - 1) * np.array([1, 2, 3, 4]))
    np.testing.assert_allclose(state.params["w"], 1.0 - 0.1 * slope, atol=1e-6)
    assert {name: float(value) for name, value in sums.items()} == {
        "loss": 0.0 + 1.0 + 4.0,
        "size": 6.0,
        "count": 3.0,
    }


def test_the_average_serves_where_the_optimiser_keeps_one():
    double = likelihood_training.with_ema(lambda factor, params, batch: factor * params["w"], 2.0)
    plain = likelihood_training.State({"w": 3.0}, optax.EmptyState())
    assert double(plain, None) == 6.0
    assert double(plain._replace(opt_state={"ema": {"w": 5.0}}), None) == 10.0
