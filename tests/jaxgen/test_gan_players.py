import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import gan_players
from tests.jaxgen.test_gan_training import by_hand


def test_equal_logits_count_as_a_guess():
    setup = by_hand()[0]
    real, fake = (jnp.array(v).reshape(3, 1, 1, 1) for v in ([1.0, 2.0, 3.0], [1.0, 3.0, 2.0]))
    weights = {"b": jnp.float32(1.0), "c": jnp.float32(0.0)}
    terms = gan_players.discriminator_losses(setup, weights, real, fake, None)
    np.testing.assert_array_equal(terms["d_accuracy"], [0.5, 0.0, 1.0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latents": -1}, "latents must be at least 0, got -1"),
        ({"discriminator_steps": 0}, "discriminator_steps must be at least 1, got 0"),
        ({"penalty_every": 0}, "penalty_every must be at least 1, got 0"),
        ({"distance": -0.5}, "distance must be at least 0, got -0.5"),
        ({"penalty": "r2"}, "must be r1, gradient or empty; got 'r2'"),
        ({"penalty": "r1"}, "penalty_weight=0.0: give both or none"),
        ({"penalty_weight": 1.0}, "penalty='', penalty_weight=1.0: give both or none"),
    ],
)
def test_values_outside_their_range_are_refused(change, message):
    setup = by_hand()[0]
    gan_players.check(setup._replace(latents=0))
    with pytest.raises(ValueError, match=message):
        gan_players.check(setup._replace(**change))
