import jax
import jax.numpy as jnp
import pytest

from launch.engine import flops


def product(x, y):
    return x @ y


X, Y = jnp.ones((3, 5)), jnp.ones((5, 7))
ONE = 2 * 3 * 5 * 7


@pytest.mark.parametrize(
    ("function", "times"),
    [
        (product, 1),
        (jax.jit(product), 1),
        (jax.checkpoint(product), 1),
        (jax.grad(lambda x, y: product(x, y).sum(), argnums=(0, 1)), 3),
        (lambda x, y: jax.lax.scan(lambda c, _: (c, product(x, y)), 0, None, length=4), 4),
        (lambda x, y: jax.lax.fori_loop(0, 6, lambda i, s: s + product(x, y).sum(), 0.0), 6),
        (lambda x, y: jax.lax.cond(x[0, 0] > 0, product, lambda x, y: x @ y + x @ y, x, y), 2),
        (lambda x, y: jax.lax.while_loop(lambda s: s < 9, lambda s: s + (x @ y).sum(), 0.0), 1),
        (lambda x, y: jax.vmap(product, (0, None))(x[:, None], y), 1),
    ],
)
def test_products_are_counted_wherever_they_stand(function, times):
    assert flops.count(function, X, Y) == times * ONE


def test_shards_count_for_every_device():
    mesh = jax.make_mesh((jax.device_count(),), ("data",))
    spec = jax.sharding.PartitionSpec()
    function = jax.shard_map(product, mesh=mesh, in_specs=(spec, spec), out_specs=spec)
    assert flops.count(function, X, Y) == jax.device_count() * ONE


def window(x, kernel, stride=1, groups=1):
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (2, 1), (1, 4), (2, 8)])
def test_a_convolution_and_its_two_gradients_cost_the_same(stride, groups):
    x, kernel = jnp.ones((2, 16, 12, 8)), jnp.ones((3, 3, 8 // groups, 24))
    places = 2 * 16 * 12 // stride**2
    forwards = 2 * places * 24 * 9 * 8 // groups
    assert flops.count(lambda *a: window(*a, stride, groups), x, kernel) == forwards
    loss = lambda *a: window(*a, stride, groups).sum()
    by_kernel = flops.count(jax.grad(loss, argnums=1), x, kernel)
    by_image = flops.count(jax.grad(loss, argnums=0), x, kernel)
    assert by_kernel == 2 * forwards
    assert by_image == 2 * forwards


def test_the_count_of_a_dense_program_is_that_of_xla():
    compiled = jax.jit(product).lower(X, Y).compile()
    assert flops.count(product, X, Y) == compiled.cost_analysis()["flops"]
