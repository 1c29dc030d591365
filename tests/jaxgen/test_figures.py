import jax
import numpy as np

from jaxgen import figures


def test_completions_stand_between_what_is_given_and_the_image():
    image = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 1)).astype(np.uint8)
    complete = lambda batch, rng: jax.random.uniform(rng, batch["image"].shape)
    found = np.asarray(figures.completions(complete, {"image": image}, 2, jax.random.key(0)))
    assert found.shape == (2, 8, 5, 4, 1)
    np.testing.assert_allclose(found[:, 0, :2], image[:, :2] / 255, atol=1e-6)
    assert (found[:, 0, 2:] == 0.5).all()
    np.testing.assert_allclose(found[:, 7], image / 255, atol=1e-6)
    drawn = found[:, 1:7].swapaxes(0, 1).reshape(6, -1)
    assert len(np.unique(drawn, axis=0)) == 6
