import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.inference import posterior

KEY = jax.random.key(0)
BATCH = {
    "image": np.random.default_rng(0).normal(size=(2, 3, 4, 3)).astype(np.float32),
    "index": np.arange(2, dtype=np.int32),
}


def logits_of(batch, rng, drop):
    """Logits that depend on place, and on the key where dropout is on."""
    ramp = jnp.arange(4.0, dtype=jnp.float32)[None, None, :, None]
    x = batch["image"] * (1.0 + ramp) + batch["index"].astype(jnp.float32)[:, None, None, None]
    return x + jax.random.normal(rng, x.shape) if drop else x


def softmax(x):
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def entropy(p):
    return -(p * np.log(p)).sum(-1)


@pytest.mark.parametrize("flips", [False, True])
def test_without_samples_it_is_the_softmax_and_its_mirror_image(flips):
    found = posterior.predict(logits_of, BATCH, KEY, flips=flips)
    ramp, index = 1.0 + np.arange(4)[:, None], np.arange(2)[:, None, None, None]
    expected = softmax(BATCH["image"] * ramp + index)
    if flips:
        expected = (expected + softmax(BATCH["image"] * ramp[::-1] + index)) / 2
    assert found.keys() == {"probability", "entropy"}
    np.testing.assert_allclose(found["probability"], expected, rtol=1e-4)
    np.testing.assert_allclose(found["entropy"], entropy(expected), rtol=1e-4)


def test_samples_are_averaged_and_their_disagreement_is_the_mutual_information():
    found = posterior.predict(logits_of, BATCH, KEY, passes=3)
    samples = [
        softmax(np.asarray(logits_of(BATCH, jax.random.fold_in(KEY, n), True))) for n in range(3)
    ]
    mean = np.mean(samples, 0)
    np.testing.assert_allclose(found["probability"], mean, rtol=1e-4)
    np.testing.assert_allclose(found["entropy"], entropy(mean), rtol=1e-4)
    information = entropy(mean) - np.mean([entropy(p) for p in samples], 0)
    np.testing.assert_allclose(found["information"], information, atol=1e-5)
    assert information.max() > 0.05


def test_entropy_of_certainty_is_zero():
    found = posterior.entropy(np.float32([[1.0, 0.0], [0.5, 0.5]]))
    np.testing.assert_allclose(found, [0.0, np.log(2)], atol=1e-6)
