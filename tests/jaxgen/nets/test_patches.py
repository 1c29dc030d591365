import jax.numpy as jnp
import numpy as np

from jaxgen.nets.patches import fold, unfold


def test_patches_fold_and_unfold():
    x = jnp.arange(2 * 4 * 6 * 3.0).reshape(2, 4, 6, 3)
    assert fold(x, 2).shape == (2, 2, 3, 12)
    np.testing.assert_array_equal(fold(x, 2)[0, 1, 2, :3], x[0, 2, 4])
    np.testing.assert_array_equal(unfold(fold(x, 2), 2), x)
