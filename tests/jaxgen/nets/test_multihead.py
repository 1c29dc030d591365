import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.nets.multihead import attend


def test_attention_is_that_of_jax():
    rng = np.random.default_rng(0)
    shapes = (2, 5, 3, 8), (2, 7, 3, 8), (2, 7, 3, 8)
    arrays = [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]
    expected = jax.nn.dot_product_attention(*arrays)
    np.testing.assert_allclose(attend(*arrays), expected, atol=1e-5)
    half = attend(*(array.astype(jnp.bfloat16) for array in arrays))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), expected, atol=0.05)
