import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from launch.engine import optimizer, rate_tables


def run(transformation):
    """Parameters after each of three updates."""
    params, seen = jnp.ones(2), []
    state = transformation.init(params)
    for gradient in jnp.array([[1.0, -2.0], [0.5, 0.5], [3.0, 1.0]]):
        updates, state = transformation.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        seen.append(np.asarray(params))
    return seen


@pytest.mark.parametrize("several", [False, True])
def test_tables_give_what_the_schedules_give(several):
    schedule = {"name": "optax:cosine_decay_schedule", "init_value": 0.5, "decay_steps": 3}
    spec = ConfigDict({"name": "optax:adam", "learning_rate": schedule})
    spec = ConfigDict({"model": spec}) if several else spec
    built, rates = optimizer.build(spec)
    tables = rate_tables.of(rates, 5000)
    tabled, read = optimizer.build(spec, tables=jax.tree.map(jnp.asarray, tables))
    (name,), (key,) = rates, built
    assert tables[name].shape == (8192,)
    steps = np.array([0, 1, 2, 3, 8191, 8192])
    np.testing.assert_allclose([read[name](s) for s in steps], [rates[name](s) for s in steps])
    wanted = run(built[key])
    found = run(tabled[key])
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_most_trainings_have_tables_of_the_same_length():
    rates = {"learning_rate": optax.constant_schedule(0.1)}
    lengths = {len(rate_tables.of(rates, n)["learning_rate"]) for n in (1, 900, 4095)}
    assert lengths == {4096}
