import jax.numpy as jnp
import numpy as np
import optax

from jaxseg import training


def test_a_step_of_gradient_descent_by_hand():
    optimizer = optax.sgd(0.1)
    state = training.init_state(optimizer, {"params": jnp.float32(3.0)})
    assert state.batch_stats == {}

    def loss(x):
        return (x - 1.0) ** 2, ({"mean": x}, "other")

    new, other = training.gradient_step(optimizer, loss, state)
    np.testing.assert_allclose(new.params, 3.0 - 0.1 * 2 * 2.0, rtol=1e-6)
    np.testing.assert_allclose(new.batch_stats["mean"], 3.0)
    assert other == "other"
    assert type(new) is training.State


def test_the_optimiser_sees_the_parameters():
    optimizer = optax.add_decayed_weights(0.5)
    state = training.init_state(optimizer, {"params": jnp.float32(4.0), "batch_stats": {"a": 1}})
    assert state.batch_stats == {"a": 1}
    new, _ = training.gradient_step(optimizer, lambda x: (0.0 * x, (0, None)), state)
    np.testing.assert_allclose(new.params, 4.0 + 0.5 * 4.0)


def test_the_moving_average_serves_where_the_optimiser_keeps_one():
    plain = training.State(params=1.0, opt_state=(), batch_stats={"a": 2})
    assert training.ema_params(plain) == 1.0
    averaged = plain._replace(opt_state=({"ema": 7.0},))
    assert training.ema_params(averaged) == 7.0
    assert training.ema_variables(averaged) == {"params": 7.0, "batch_stats": {"a": 2}}
