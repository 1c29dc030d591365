import jax
import numpy as np
import pytest

from jaxgen.nets.feature_net import FeatureNet
from tests.jaxgen.nets.test_encoder_decoder import conv, dense
from tests.jaxgen.nets.test_gan import pooled
from tests.jaxgen.nets.test_masked import normal, parameters

NET = FeatureNet(classes=4, widths=(8, 8, 8), size=16)


@pytest.mark.parametrize(
    ("shape", "pixels"),
    [
        ((28, 28, 1), 4 * 4),
        ((8, 8, 1), 4 * 4),
        ((3, 5, 3), 3 * 3),
        ((64, 40, 3), 4 * 3),  # 8 x 5 after three halvings, 4 x 3 after pooling by 2 x 2
        ((30, 224, 3), 4 * 4),
    ],
)
def test_any_size_is_brought_down_to_a_small_map(shape, pixels):
    x = jax.ShapeDtypeStruct((2, *shape), np.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    (features, logits), variables = jax.eval_shape(
        lambda key, x: NET.init_with_output(key, x, features=True), key, x
    )
    assert features.shape == (2, 16)
    assert logits.shape == (2, 4)
    assert variables["params"]["Dense_0"]["kernel"].shape[0] == 8 * pixels


def test_sizes_where_none_are_given():
    x = np.zeros((2, 8, 8, 1), np.float32)
    shapes = jax.eval_shape(lambda: FeatureNet(classes=3).init(jax.random.key(0), x))["params"]
    kernels = [leaf["kernel"].shape for leaf in shapes.values()]
    assert kernels[:3] == [(3, 3, 1, 32), (3, 3, 32, 64), (3, 3, 64, 128)]
    assert kernels[3:] == [(4 * 4 * 128, 128), (128, 3)]


def test_features_are_convolutions_means_and_a_dense_layer():
    net, x = FeatureNet(classes=3, widths=(6,), size=5), normal(2, 9, 9, 2)
    params = parameters(net, x, size=0.3)
    h = np.maximum(conv(x, params["Conv_0"], stride=2), 0)
    h = np.maximum(dense(pooled(h).reshape(2, -1), params["Dense_0"]), 0)
    apply = lambda x, **options: net.apply({"params": params}, x, **options)
    features, logits, alone = jax.jit(lambda x: (*apply(x, features=True), apply(x)))(x)
    np.testing.assert_allclose(features, h, atol=1e-4)
    np.testing.assert_allclose(logits, dense(h, params["Dense_1"]), atol=1e-4)
    np.testing.assert_array_equal(alone, logits)
