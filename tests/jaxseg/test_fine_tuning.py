"""AdamW with rates by part: shares, frozen parts, decay."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxseg import fine_tuning

PARAMS = {
    "encoder": {
        "stem": {"kernel": jnp.ones((2, 2))},
        "stage0_block0": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
        "stage0_block10": {"kernel": jnp.ones((2, 2))},
        "stage0_block2": {"kernel": jnp.ones((2, 2))},
    },
    "head": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
}


@pytest.fixture(autouse=True)
def promotion():
    """Optax itself raises floats to the power of integers."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def steps(count, **options):
    """Parameters after steps with gradients of one."""
    optimizer = fine_tuning.adamw(0.1, **options)
    params, state = PARAMS, optimizer.init(PARAMS)
    for _ in range(count):
        updates, state = jax.jit(optimizer.update)(
            jax.tree.map(jnp.ones_like, params), state, params
        )
        params = optax.apply_updates(params, updates)
    return params


def test_alone_it_is_adamw_without_decay_of_biases():
    ours = steps(3, weight_decay=0.5)
    mask = lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params)
    theirs = optax.adamw(0.1, weight_decay=0.5, mask=mask)
    params, state = PARAMS, theirs.init(PARAMS)
    for _ in range(3):
        updates, state = theirs.update(jax.tree.map(jnp.ones_like, params), state, params)
        params = optax.apply_updates(params, updates)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), ours, params)


def test_rates_fall_towards_the_stem_in_the_order_of_the_blocks():
    after = steps(1, weight_decay=0.0, encoder=0.5, layer_decay=0.1)
    moved = jax.tree.map(lambda new, old: float((old - new).ravel()[0]), after, PARAMS)
    first = moved["head"]["kernel"]
    expected = {"stage0_block10": 0.5, "stage0_block2": 0.05, "stage0_block0": 0.005, "stem": 5e-4}
    for block, share in expected.items():
        assert moved["encoder"][block]["kernel"] / first == pytest.approx(share, rel=1e-2)


@pytest.mark.parametrize(("frozen_steps", "moves"), [(0, False), (2, True), (3, False)])
def test_frozen_parts_stay_for_as_many_steps(frozen_steps, moves):
    after = steps(3, frozen=("encoder/",), frozen_steps=frozen_steps)
    stem = after["encoder"]["stem"]["kernel"]
    assert bool(jnp.any(stem != 1)) is moves
    assert jnp.all(after["head"]["kernel"] != 1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"encoder": 2.0}, "encoder=2.0"),
        ({"layer_decay": 0.0}, "layer_decay=0.0"),
        ({"frozen_steps": 3}, "names nothing"),
        ({"frozen": ("backbone/",)}, "fits no parameter; there are encoder/stage0_block0"),
    ],
)
def test_what_cannot_work_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        steps(1, **options)
