import jax
import numpy as np
import pytest

from jaxgen.nets.feature_net import FeatureNet

NET = FeatureNet(classes=4, widths=(8, 8, 8), size=16)


@pytest.mark.parametrize("shape", [(28, 28, 1), (8, 8, 1), (3, 5, 3), (64, 40, 3), (30, 224, 3)])
def test_any_size_is_brought_down_to_a_small_map(shape):
    x = jax.ShapeDtypeStruct((2, *shape), np.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    (features, logits), variables = jax.eval_shape(
        lambda key, x: NET.init_with_output(key, x, features=True), key, x
    )
    assert features.shape == (2, 16)
    assert logits.shape == (2, 4)
    assert variables["params"]["Dense_0"]["kernel"].shape[0] <= 4 * 4 * 8


def test_the_logits_are_linear_in_the_features():
    x = np.random.default_rng(0).uniform(-1, 1, (2, 9, 6, 1)).astype(np.float32)
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(NET.init, jax.eval_shape(lambda: jax.random.key(0)), x)
    variables = jax.tree.map(lambda leaf: rng.normal(0, 0.2, leaf.shape).astype("f"), shapes)
    compute = jax.jit(lambda v, x: (*NET.apply(v, x, features=True), NET.apply(v, x)))
    features, logits, alone = jax.device_get(compute(variables, x))
    assert features.min() >= 0
    assert np.abs(features[0] - features[1]).max() > 0
    head = variables["params"]["Dense_1"]
    np.testing.assert_allclose(logits, features @ head["kernel"] + head["bias"], atol=1e-5)
    np.testing.assert_allclose(alone, logits, atol=1e-5)
