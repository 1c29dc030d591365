import jax
import numpy as np
import pytest
from scipy import stats

from jaxgen.nets.ladder import Ladder

KEY = jax.random.key(0)
SHAPE = (8, 8, 1)
NET = Ladder(patch=2, widths=(8, 6), groups=(1, 2), latents=(2, 3), top=4, blocks=1)


def moved(params):
    """Parameters far from where they start, where blocks do nothing yet."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(KEY, len(leaves))
    noise = [
        0.1 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)
    ]
    return tree.unflatten([a + b for a, b in zip(leaves, noise, strict=True)])


@pytest.fixture(scope="module")
def ready():
    x = jax.random.uniform(KEY, (3, *SHAPE))
    noise = jax.random.normal(jax.random.key(1), (3, NET.size(SHAPE)))
    params = moved(NET.init(KEY, noise, SHAPE, x)["params"])
    call = jax.jit(lambda noise, x: NET.apply({"params": params}, noise, SHAPE, x))
    return call, noise, x


def test_latents_are_counted_from_coarse_to_fine():
    assert NET.size(SHAPE) == 4 + 2 * (2 * 2 * 3) + 4 * 4 * 2


def test_at_first_the_latents_know_nothing_of_the_image():
    x, noise = jax.random.uniform(KEY, (3, *SHAPE)), jax.random.normal(KEY, (3, NET.size(SHAPE)))
    (pixels, kl, ratio), variables = NET.init_with_output(KEY, noise, SHAPE, x)
    assert (np.asarray(kl) == 0).all()
    assert (np.asarray(ratio) == 0).all()
    np.testing.assert_array_equal(pixels, NET.apply(variables, noise, SHAPE)[0])


def test_an_image_stays_in_its_row(ready):
    call, noise, x = ready
    pixels, kl, ratio = call(noise, x)
    assert pixels.shape == (3, *SHAPE)
    assert kl.shape == ratio.shape == (3, 4)
    again = call(noise[::-1], x[::-1])
    for whole, part in zip((pixels, kl, ratio), again, strict=True):
        np.testing.assert_allclose(whole[::-1], part, rtol=1e-4, atol=1e-4)


def test_the_divergence_is_the_mean_of_the_log_ratio(ready):
    """KL(q || p) = E_q[log q - log p], group by group, given the groups before."""
    call, _, x = ready
    draws = jax.random.normal(jax.random.key(2), (4000, 1, NET.size(SHAPE)))
    _, kl, ratio = jax.lax.map(lambda noise: call(noise, x[:1]), draws)
    gap = np.asarray(kl[:, 0] + ratio[:, 0], np.float64)
    assert (np.asarray(kl) >= -1e-4).all()
    assert np.abs(gap).mean() > 0.01
    assert (np.abs(gap.mean(0)) < 4 * gap.std(0) / np.sqrt(len(gap)) + 1e-5).all()


def test_the_first_groups_terms_are_those_of_normal_distributions():
    """The group alone, by scipy."""
    from jaxgen.nets.ladder import Group, _moments

    group = Group(2)
    h, seen, noise = (
        jax.random.normal(jax.random.key(n), (5, size)) for n, size in enumerate((6, 6, 2))
    )
    params = moved(group.init(KEY, h, seen, noise)["params"])
    (_, kl, ratio), kept = group.apply(
        {"params": params}, h, seen, noise, capture_intermediates=True
    )
    out = {name: kept["intermediates"][name]["__call__"][0] for name in ("prior", "posterior")}
    (mean, std), (q_mean, q_std) = (
        [np.asarray(part) for part in _moments(out[name], 2)] for name in ("prior", "posterior")
    )
    z = q_mean + np.exp(q_std) * noise
    log_p = stats.norm.logpdf(z, mean, np.exp(std)).sum(1)
    log_q = stats.norm.logpdf(z, q_mean, np.exp(q_std)).sum(1)
    np.testing.assert_allclose(ratio, log_p - log_q, rtol=1e-4, atol=1e-4)
    expected = (
        std - q_std + (np.exp(2 * q_std) + (q_mean - mean) ** 2) / (2 * np.exp(2 * std)) - 0.5
    )
    np.testing.assert_allclose(kl, expected.sum(1), rtol=1e-4, atol=1e-4)


def test_without_an_image_latents_come_from_the_prior(ready):
    call, noise, _ = ready
    pixels, kl, ratio = call(noise, None)
    assert not kl.any()
    assert not ratio.any()
    coarse = noise.at[:, :4].set(0.0)
    fine = noise.at[:, -4 * 4 * 2 :].set(0.0)
    for other in (coarse, fine):
        assert np.abs(call(other, None)[0] - pixels).max() > 1e-3


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (Ladder(patch=2, widths=(8, 8), groups=(1,), latents=(1, 1)), "an entry for each size"),
        (Ladder(patch=3, widths=(8,), groups=(1,), latents=(1,)), "multiples of 3 .*8 x 8"),
    ],
)
def test_what_does_not_fit_is_refused(net, words):
    with pytest.raises(ValueError, match=words):
        net.size(SHAPE)
