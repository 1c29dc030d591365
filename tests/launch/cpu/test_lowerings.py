"""The rules for CPUs, beside sums written out in float64 and beside JAX's own rules."""

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import pytest
from flax import linen as nn
from jax import lax
from jax._src import compilation_cache

from launch.config.errors import UserError
from launch.cpu import lowerings, onednn
from launch.engine import sharding

ORDER = ("NHWC", "HWIO", "NHWC")
ONE = (1, 1)
# (image, kernel, strides, padding, spread, dilation, groups)
CASES = {
    "3 x 3": ((2, 7, 6, 3), (3, 3, 3, 4), ONE, ((1, 1), (1, 1)), ONE, ONE, 1),
    "1 x 1": ((2, 5, 4, 3), (1, 1, 3, 4), ONE, ((0, 0), (0, 0)), ONE, ONE, 1),
    "strided, uneven": ((2, 9, 8, 2), (4, 3, 2, 4), (2, 3), ((1, 2), (0, 1)), ONE, ONE, 1),
    "dilated": ((1, 9, 9, 2), (3, 2, 2, 4), ONE, ((2, 2), (1, 0)), ONE, (2, 3), 1),
    "grouped": ((2, 6, 6, 4), (3, 3, 2, 6), ONE, ((1, 1), (1, 1)), ONE, ONE, 2),
    "depthwise": ((1, 6, 6, 4), (3, 3, 1, 4), (2, 2), ((1, 1), (1, 1)), ONE, ONE, 4),
    "depthwise, uneven": ((2, 9, 8, 3), (5, 4, 1, 3), (2, 3), ((1, 2), (0, 3)), ONE, ONE, 3),
    "depthwise, dilated": ((2, 9, 7, 3), (3, 2, 1, 3), ONE, ((2, 1), (0, 1)), ONE, (2, 3), 3),
    "depthwise, cut": ((2, 7, 8, 3), (3, 3, 1, 3), ONE, ((-1, 1), (2, -2)), ONE, ONE, 3),
    "transposed, grouped": ((2, 4, 5, 4), (3, 4, 2, 6), ONE, ((1, 2), (2, 2)), (2, 3), ONE, 2),
    "tiles": ((2, 4, 3, 3), (2, 2, 3, 4), ONE, ((1, 1), (1, 1)), (2, 2), ONE, 1),
    "transposed": ((2, 4, 5, 3), (4, 4, 3, 2), ONE, ((2, 2), (2, 2)), (2, 2), ONE, 1),
    "transposed, gaps": ((1, 4, 3, 2), (2, 1, 2, 3), ONE, ((2, 1), (0, 2)), (3, 2), ONE, 1),
    "cut": ((1, 9, 8, 2), (2, 3, 2, 3), (2, 1), ((-1, 1), (-2, 0)), ONE, ONE, 1),
    "transposed, cut": ((1, 5, 6, 2), (2, 2, 2, 3), ONE, ((-1, 1), (2, -1)), (2, 2), ONE, 1),
}


@pytest.fixture
def rules(monkeypatch):
    """The rules in place, for convolutions of any size; JAX's own afterwards."""
    monkeypatch.delenv("SEGEN_CPU_RULES", raising=False)
    monkeypatch.setattr(lowerings, "LEAST_FLOP", 0)
    monkeypatch.setattr(lowerings, "LEAST_CHANNELS", 0)
    assert lowerings.install()
    yield
    lowerings.remove()


def convolution(case):
    _, _, strides, padding, spread, dilation, groups = case
    return lambda x, kernel: lax.conv_general_dilated(
        x, kernel, strides, padding, spread, dilation, ORDER, feature_group_count=groups
    )


def arrays(case, seed=0):
    draw = np.random.default_rng(seed).standard_normal
    return [draw(shape).astype(np.float32) for shape in case[:2]]


def written_out(case, x, kernel):
    """The convolution in float64, element by element of the kernel."""
    _, (rows, columns, _, outputs), strides, padding, spread, dilation, groups = case
    batch, *_, channels = x.shape
    wide = np.zeros(
        (batch, *[(n - 1) * s + 1 for n, s in zip(x.shape[1:3], spread, strict=True)], channels)
    )
    wide[:, :: spread[0], :: spread[1]] = x
    for axis, (low, high) in enumerate(padding, 1):
        pads = [(0, 0)] * 4
        pads[axis] = (max(0, low), max(0, high))
        wide = np.pad(wide, pads)
        wide = np.take(wide, range(max(0, -low), wide.shape[axis] - max(0, -high)), axis)
    sizes = zip(wide.shape[1:3], (rows, columns), strides, dilation, strict=True)
    tall, broad = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in sizes]
    y = np.zeros((batch, tall, broad, outputs))
    for a in range(rows):
        for b in range(columns):
            seen = wide[:, a * dilation[0] :: strides[0], b * dilation[1] :: strides[1]]
            seen = seen[:, :tall, :broad].reshape(batch, tall, broad, groups, -1)
            taps = kernel[a, b].astype(float).reshape(-1, groups, outputs // groups)
            y += np.einsum("bhwgc,cgo->bhwgo", seen, taps).reshape(y.shape)
    return y


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_written_out(rules, name):
    case = CASES[name]
    x, kernel = arrays(case)
    expected = written_out(case, x, kernel)
    slope = np.random.default_rng(1).standard_normal(expected.shape).astype(np.float32)

    def all_of(x, kernel, slope):
        y, back = jax.vjp(convolution(case), x, kernel)
        return y, *back(slope)

    y, dx, dk = jax.jit(all_of)(x, kernel, slope)
    np.testing.assert_allclose(y, expected, atol=1e-6 * np.abs(expected).max(), rtol=1e-6)
    # Both gradients of a linear function: its product with the slope along any direction.
    for gradient, at in ((dx, 0), (dk, 1)):
        direction = np.random.default_rng(2).standard_normal(gradient.shape)
        moved = [x, kernel]
        moved[at] = direction
        expected = np.sum(written_out(case, *moved) * slope)
        found = np.sum(np.asarray(gradient, float) * direction)
        assert abs(found - expected) <= 2e-6 * np.sum(np.abs(gradient * direction))


def test_gradients_of_gradients_and_forward_mode_are_those_of_xla(rules):
    net = nn.Sequential([nn.Conv(4, (3, 3)), nn.softplus, nn.ConvTranspose(2, (4, 4), (2, 2))])
    x = jax.random.normal(jax.random.key(0), (2, 6, 6, 3))
    params = net.init(jax.random.key(1), x)

    def penalty(params):  # as R1: the gradient by the parameters of a gradient by the image
        return jnp.sum(jax.grad(lambda x: jnp.sum(net.apply(params, x) ** 2))(x) ** 2)

    def both(params):
        return jax.grad(penalty)(params), jax.jvp(penalty, (params,), (params,))

    ours = jax.jit(both)(params)
    lowerings.remove()
    jax.clear_caches()
    theirs = jax.jit(both)(params)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6 * np.abs(b).max())


def test_inside_scan_cond_and_vmap_and_twice_to_the_bit(rules):
    case = CASES["3 x 3"]
    x, kernel = arrays(case)
    apply = convolution(case)

    def total(kernel):
        add = lambda total, image: (total + jnp.sum(apply(image[None], kernel) ** 2), None)
        scanned = lax.scan(add, 0.0, x)[0]
        mapped = jnp.sum(jax.vmap(lambda image: apply(image[None], kernel))(x) ** 2)
        return scanned + lax.cond(scanned > 0, lambda: mapped, lambda: 0.0)

    run = jax.jit(jax.grad(total))
    gradient = run(kernel)
    straight = jax.grad(lambda kernel: 2 * jnp.sum(apply(x, kernel) ** 2))(kernel)
    np.testing.assert_allclose(gradient, straight, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(gradient, run(kernel))


def test_the_gradient_of_max_pooling_is_that_of_xla_to_the_bit(rules):
    x = np.random.default_rng(0).integers(-2, 3, (2, 6, 8, 3)).astype(np.float32)  # many ties
    x[0, 0, 0, 0] = x[1, 3, 3, 2] = np.nan
    slope = np.random.default_rng(1).standard_normal((2, 3, 2, 3)).astype(np.float32)
    pool = lambda x: nn.max_pool(x, (2, 4), (2, 4))
    gradient = lambda x, slope: jax.vjp(pool, x)[1](slope)[0]
    ours = jax.jit(lambda x, slope: gradient(x, slope))(x, slope)
    lowerings.remove()
    jax.clear_caches()
    theirs = jax.jit(lambda x, slope: gradient(x, slope))(x, slope)
    np.testing.assert_array_equal(ours, theirs)


def lowered(function, *arguments, **options):
    return jax.jit(function, **options).trace(*arguments)


def test_other_platforms_exports_and_several_devices_see_none_of_it(rules):
    case = CASES["3 x 3"]
    x, kernel = arrays(case)
    function = lambda x, kernel: convolution(case)(x, kernel)
    assert "onednn" in lowered(function, x, kernel).lower().as_text()
    assert "onednn" not in lowered(function, x, kernel).lower(lowering_platforms=("tpu",)).as_text()
    assert "onednn" not in jax.export.export(jax.jit(function))(x, kernel).mlir_module()
    mesh = jax.sharding.Mesh(jax.devices()[:2], "data")
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    spread = lowered(function, x, kernel, in_shardings=(rows, None))
    assert "onednn" not in spread.lower().as_text()


@pytest.mark.parametrize("name", CASES)
def test_machines_without_onednn_get_the_same(rules, name, monkeypatch):
    monkeypatch.setattr(onednn, "available", lambda: False)
    jax.clear_caches()
    test_values_and_gradients_are_those_written_out(None, name)


def test_an_unknown_jaxlib_keeps_the_rules_of_jax_and_it_is_said_once(monkeypatch, caplog):
    monkeypatch.delenv("SEGEN_CPU_RULES", raising=False)
    monkeypatch.setattr(jaxlib, "__version__", "0.99.1")
    lowerings._rules_of_jax.cache_clear()
    try:
        assert not lowerings.install()
        assert not lowerings.install()
    finally:
        lowerings._rules_of_jax.cache_clear()
    assert [record.message for record in caplog.records] == [
        "CPUs compute by JAX's own rules: jaxlib 0.99.1 was not tried with ours"
    ]


def gradient_by_kernel(case):
    return lambda x, kernel, slope: jax.vjp(lambda k: convolution(case)(x, k), kernel)[1](slope)[0]


def test_small_layers_and_few_channels_are_left_to_xla(rules, monkeypatch):
    case = CASES["3 x 3"]  # two images of 7 x 6, three channels
    x, kernel = arrays(case)
    slope = np.ones((2, 7, 6, 4), np.float32)
    text = lambda: lowered(gradient_by_kernel(case), x, kernel, slope).lower().as_text()
    assert "onednn" in text()
    monkeypatch.setattr(lowerings, "LEAST_CHANNELS", 4)
    assert "onednn" not in text()
    monkeypatch.setattr(lowerings, "LEAST_CHANNELS", 0)
    monkeypatch.setattr(lowerings, "LEAST_FLOP", 18 * 2 * 7 * 6 * 3 * 4 + 1)
    assert "onednn" not in text()
    # In XLA's order of dimensions all the same, without which it is slow in loops.
    assert "[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]" in text()


def test_small_depthwise_layers_are_left_to_xla(rules, monkeypatch):
    case = CASES["depthwise"]  # an image of 6 x 6, four channels; 3 x 3 outputs
    x, kernel = arrays(case)
    slope = np.ones((1, 3, 3, 4), np.float32)
    text = lambda: lowered(gradient_by_kernel(case), x, kernel, slope).lower().as_text()
    assert "onednn" in text()
    monkeypatch.setattr(lowerings, "LEAST_FLOP", 9 * 2 * 3 * 3 * 4 + 1)
    assert "onednn" not in text()


def test_products_of_many_rows_are_cut_into_several():
    a, b = (np.random.default_rng(n).standard_normal((3 * 16_384, 3 + n)) for n in range(2))
    product = jax.jit(onednn.gram)(a.astype(np.float32), b.astype(np.float32))
    expected = a.T @ b
    np.testing.assert_allclose(product, expected, atol=1e-6 * len(a) ** 0.5 * np.abs(b).max())


def test_commands_install_the_rules(monkeypatch):
    monkeypatch.delenv("SEGEN_CPU_RULES", raising=False)
    case = (1, 32, 32, 8), (3, 3, 8, 32), *CASES["3 x 3"][2:]
    try:
        sharding.set_up_jax()
        assert "onednn" in lowered(convolution(case), *arrays(case)).lower().as_text()
    finally:
        lowerings.remove()


def test_programs_with_onednn_are_kept_in_memory_and_others_in_the_compilation_cache(rules):
    case, kept, found = CASES["3 x 3"], [], {}
    note = lambda key, *rest: kept.append(key)
    for name, function in (("with", convolution(case)), ("without", lambda x, kernel: x + 1)):
        program = lowered(function, *arrays(case)).lower().compile().runtime_executable()
        lowerings._keep(note, name, "module", program, jax.devices()[0].client, 0)
        found[name] = lowerings._find(lambda *rest: (None, None), name, None)[0]
    assert kept == ["without"]
    assert compilation_cache.put_executable_and_time.func is lowerings._keep
    assert found["with"] is not None
    assert found["without"] is None
    assert len(lowerings._newest) <= lowerings.NEWEST


def test_rules_that_moved_are_said_once(monkeypatch, caplog):
    from jax._src.lax import convolution as private

    monkeypatch.delenv("SEGEN_CPU_RULES", raising=False)
    lowerings._rules_of_jax.cache_clear()
    monkeypatch.delattr(private, "_conv_general_dilated_lower")
    assert not lowerings.install()
    assert not lowerings.install()
    lowerings._rules_of_jax.cache_clear()
    assert [record.message for record in caplog.records] == [
        "CPUs compute by JAX's own rules, which moved: module "
        "'jax._src.lax.convolution' has no attribute '_conv_general_dilated_lower'"
    ]


def test_the_environment_can_leave_the_rules_out(monkeypatch):
    monkeypatch.setenv("SEGEN_CPU_RULES", "xla")
    assert not lowerings.install()
    monkeypatch.setenv("SEGEN_CPU_RULES", "fast")
    with pytest.raises(UserError, match=r"SEGEN_CPU_RULES=fast: give xla"):
        lowerings.install()
