from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from launch.engine import pmap_steps, sharding
from launch.engine.compiled_steps import StepOutputs


class State(NamedTuple):
    params: jax.Array
    batch_stats: jax.Array
    class_frequencies: jax.Array


def one(state, batch, step):
    """A step that each device takes on its own rows; parameters must not differ."""
    rows = batch["x"].sum()
    state = State(
        state.params + jax.lax.pmean(rows, "devices") + step,
        state.batch_stats + rows,
        state.class_frequencies + rows[None],
    )
    sums = {"x": rows[None]}
    return state, StepOutputs(sums, {"rate": jnp.full(1, 0.5)}, jnp.zeros(1))


def test_devices_add_their_sums_and_average_what_is_not_a_gradient():
    mesh = sharding.make_mesh(4, 1)
    layout = State(*[NamedSharding(mesh, P())] * 3)
    train, _, put_feed, load, unreplicate = pmap_steps.compile_step(one, mesh, layout)
    state = load(State(jnp.ones(()), jnp.zeros(()), jnp.zeros(1)))
    assert state.params.shape == (4,)
    x = np.arange(8.0, dtype=np.float32)
    feed = put_feed({"x": x})
    assert feed["x"].shape == (4, 2)
    before = state
    state, outputs = train(state, feed, 3)
    # The old state gives its memory to the new one; the data may be used again.
    assert before.params.is_deleted()
    assert not feed["x"].is_deleted()
    assert outputs.sums["x"].tolist() == [28.0]
    assert outputs.learning_rates["rate"].tolist() == [0.5]
    assert outputs.skipped.tolist() == [0.0]
    whole = unreplicate(state)
    assert jax.tree.leaves(jax.device_get(whole)) == [1.0 + 7.0 + 3.0, 7.0, [7.0]]
    assert whole.params.sharding.is_fully_replicated


def test_a_state_without_such_fields_stays_as_it_is():
    assert pmap_steps._mean_statistics({"batch_stats": 1}) == {"batch_stats": 1}


def test_batch_norms_see_the_rows_of_all_devices():
    net = nn.Sequential([nn.Dense(3), nn.BatchNorm(False, momentum=0.5), nn.Dense(2)])
    x = 1.0 + jax.random.normal(jax.random.key(0), (8, 4))
    variables = net.init(jax.random.key(1), x)

    def step(state, batch, rng):
        del rng

        def loss(params):
            given = {"params": params, "batch_stats": state["batch_stats"]}
            y, changed = net.apply(given, batch, mutable=["batch_stats"])
            return jnp.mean(y**2), changed

        grads, changed = jax.grad(loss, has_aux=True)(state["params"])
        return {"params": grads, **changed}, {}

    whole, _ = step(variables, x, None)
    common = pmap_steps.with_common_statistics(step)

    def on_device(rows):
        state = common(variables, rows, None)[0]
        return state | {"params": jax.lax.pmean(state["params"], "devices")}

    shared = jax.pmap(on_device, "devices")(x.reshape(4, 2, 4))
    for expected, found in zip(jax.tree.leaves(whole), jax.tree.leaves(shared), strict=True):
        for device in range(4):
            np.testing.assert_allclose(found[device], expected, rtol=1e-5, atol=1e-6)
