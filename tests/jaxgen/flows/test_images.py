from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import flows
from jaxgen.flows.images import agreeing, complete
from jaxgen.likelihood_training import State
from tests.jaxgen.flows.small import KEY, SHAPE, far_from_zero, make_batch, make_task, model_of


def test_an_image_belongs_to_its_seed_and_class():
    task, batch = make_task(classes=2, guidance=2.0), make_batch()
    state, index = far_from_zero(task, batch), np.array([3, 9, 3, 3])
    found = task.sample(state, {"index": index, "label": np.array([0, 0, 0, 1])}, KEY)
    other = task.sample(state, {"index": np.array([9, 3]), "label": np.zeros(2, np.int32)}, KEY)
    assert found.shape == (4, *SHAPE)
    assert 0 <= found.min() < found.max() <= 1
    np.testing.assert_allclose(found[0], found[2], atol=1e-6)
    np.testing.assert_allclose(other, found[jnp.array([1, 0])], atol=1e-5)
    for another in (found[1], found[3]):
        assert np.abs(found[0] - another).max() > 1e-3


def test_guidance_of_one_is_none_and_acts_in_its_interval_alone():
    batch, seeds = make_batch(), {"index": np.arange(4), "label": np.arange(4) % 2}
    plain = make_task(classes=2)
    state = far_from_zero(plain, batch)
    images = plain.sample(state, seeds, KEY)
    one = make_task(classes=2, guidance=1.0, interval=(0.0, 1.0)).sample(state, seeds, KEY)
    np.testing.assert_allclose(one, images, atol=1e-5)
    late, early = (
        make_task(classes=2, guidance=3.0, interval=ends) for ends in ((0.5, 1), (0.0, 0.4))
    )
    assert np.abs(late.sample(state, seeds, KEY) - early.sample(state, seeds, KEY)).max() > 1e-3
    strong = make_task(classes=2, guidance=3.0, interval=(0.0, 1.0)).sample(state, seeds, KEY)
    assert np.abs(strong - images).max() > 1e-2


def test_a_weaker_net_leads_away_from_itself():
    """x = x_weaker + guidance (x_main - x_weaker), the net of the state being the weaker one."""
    batch, seeds = make_batch(), {"index": np.arange(4), "label": np.zeros(4, np.int32)}
    grid = np.array([0.0, 1.0])  # one step: the image is what the net makes of the noise
    kwargs = {"grid": grid, "interval": (0.0, 1.0)}
    plain = make_task(**kwargs)
    main = far_from_zero(plain, batch)
    weaker = jax.tree.map(lambda leaf: 0.5 * leaf, main.params)
    state = State(weaker, {"ema": main.params})
    alone = [plain.sample(State(params, {}), seeds, KEY) for params in (main.params, weaker)]
    for guidance in (1.0, 1.2):
        guided = make_task(guidance=guidance, autoguidance=True, **kwargs).sample(state, seeds, KEY)
        expected = alone[1] + guidance * (alone[0] - alone[1])
        inside = (expected > 0.01) & (expected < 0.99) & (alone[0] > 0) & (alone[1] > 0)
        inside &= (alone[0] < 1) & (alone[1] < 1)
        assert inside.mean() > 0.2
        np.testing.assert_allclose(guided[inside], expected[inside], atol=1e-5)


def test_a_completion_keeps_what_is_given():
    task, batch = make_task(given_rows=1), make_batch()
    state = far_from_zero(task, batch)
    found = task.complete(state, batch, KEY)
    np.testing.assert_allclose(255 * found[:, :1], batch["image"][:, :1], rtol=1e-6)
    other = batch | {"image": batch["image"].copy()}
    other["image"][:, 1:] = 7  # not given
    np.testing.assert_allclose(task.complete(state, other, KEY), found, atol=1e-6)
    other["image"][:, 0] = 7
    assert np.abs(task.complete(state, other, KEY) - found)[:, 1:].max() > 1e-3


def test_any_pixels_are_kept_and_rows_are_those_unless_told():
    task, batch = make_task(given_rows=2, shape=(4, 4, 3)), make_batch(6)
    batch["image"] = np.random.default_rng(1).integers(0, 256, (6, 4, 4, 3)).astype(np.uint8)
    state = far_from_zero(task, batch)
    assert task.keeps_pixels
    keep = np.random.default_rng(0).random((6, 4, 4, 1)) < 0.5
    found = np.asarray(task.complete(state, batch | {"keep": keep}, KEY))
    given = np.broadcast_to(keep, found.shape)
    np.testing.assert_array_equal(np.round(255 * found[given]), batch["image"][given])
    np.testing.assert_allclose(255 * found[given], batch["image"][given], rtol=1e-6)
    assert np.abs(255 * found - batch["image"])[~given].min() > 0
    hidden = batch | {"image": np.where(keep, batch["image"], 7).astype(np.uint8)}
    np.testing.assert_allclose(task.complete(state, hidden | {"keep": keep}, KEY), found, atol=1e-6)
    some = {key: leaf[np.array([4, 1])] for key, leaf in batch.items()}
    part = task.complete(state, some | {"keep": keep[[4, 1]]}, KEY)
    np.testing.assert_allclose(part, found[[4, 1]], atol=1e-5)
    rows = np.broadcast_to(np.arange(4)[None, :, None, None] < 2, keep.shape)
    wanted = task.complete(state, batch, KEY)
    np.testing.assert_allclose(task.complete(state, batch | {"keep": rows}, KEY), wanted, atol=1e-6)


class Two:
    """In place of a net: the mean of one of two images, given z, if the first has a share."""

    def __init__(self, first, second, share):
        self.images, self.share = np.stack([first, second]).astype(np.float32), share

    def apply(self, variables, z, t, condition):
        apart = z[:, None] - t[:, None, None, None, None] * self.images[None]
        left = 2.0 * (1.0 - t[:, None]) ** 2
        log_p = jnp.log(jnp.array([[self.share, 1.0 - self.share]]))
        weight = jax.nn.softmax(log_p - jnp.sum(apart**2, (2, 3, 4)) / left)
        return jnp.einsum("bk,khwc->bhwc", weight, self.images)


def completed_bottom(net, count, sampler):
    """The bottom rows of completions from the top rows of the first image, all values of them."""
    model = model_of(make_task(sampler=sampler, grid=flows.even_times(20)))._replace(net=net)
    image = np.round(127.5 * (net.images[0] + 1.0)).astype(np.uint8)
    batch = {"image": np.repeat(image[None], count, 0), "index": np.arange(count)}
    return np.asarray(jax.jit(partial(complete, model))({}, batch, KEY))[:, 2:]


@pytest.mark.parametrize("sampler", [flows.heun(), flows.sde()], ids=["heun", "sde"])
def test_what_is_given_tells_the_rest(sampler):
    """Of white and black images the top tells which. Noisy pixels alone err in a sixth of them."""
    white = np.full(SHAPE, 0.8)
    found = completed_bottom(Two(white, -white, 0.5), 400, sampler)
    assert (found > 0.5).mean() > 0.99
    np.testing.assert_allclose(np.median(found), 0.9, atol=1e-3)


@pytest.mark.parametrize("sampler", [flows.heun(), flows.sde()], ids=["heun", "sde"])
def test_what_is_not_told_is_drawn_at_its_share(sampler):
    first, second = np.full(SHAPE, 0.5), np.full(SHAPE, 0.5)
    second[2:] = -0.5
    found = completed_bottom(Two(first, second, 0.3), 2000, sampler)
    assert np.abs(np.abs(found - 0.5) - 0.25).max() < 0.02  # either of the two
    assert (found > 0.5).all((1, 2, 3)).mean() == pytest.approx(0.3, abs=0.04)


def test_given_pixels_act_by_bayes_rule():
    """Of independent normal pixels only the given ones change, as their own mean does."""
    clean = lambda z, t: t * z / (t**2 + (1.0 - t) ** 2)
    rng = np.random.default_rng(0)
    z, x = (rng.normal(size=(3, *SHAPE)).astype(np.float32) for _ in range(2))
    given = rng.random((3, 4, 4, 1)) < 0.5
    found = agreeing(clean, x, given)(z, jnp.float32(0.3))
    np.testing.assert_allclose(found, np.where(given, x, clean(z, 0.3)), rtol=1e-5)


def test_strips_lead_from_one_sample_to_the_other():
    task, batch = make_task(), make_batch()
    state = far_from_zero(task, batch)
    ends = {"index": np.array([2, 4]), "end": np.array([5, 3]), "label": np.zeros(2, np.int32)}
    strips = task.interpolate(state, ends, KEY)
    assert strips.shape == (2, 10, *SHAPE)
    for place, key in ((0, "index"), (-1, "end")):
        alone = task.sample(state, {"index": ends[key], "label": ends["label"]}, KEY)
        np.testing.assert_allclose(strips[:, place], alone, atol=1e-4)


def test_figures_have_their_shapes():
    task, batch = make_task(), make_batch(3)
    found = task.figures(far_from_zero(task, batch), batch, KEY)
    shapes = {name: value.shape for name, value in found.items()}
    assert shapes == {
        "samples": (64, *SHAPE),
        "denoised": (3, 9, *SHAPE),
        "completions": (3, 8, *SHAPE),
    }


def test_images_are_remade_from_a_time():
    # At first this net gives the share of z that is the image's, given the variances.
    batch, kwargs, made = make_batch(), {"parametrisation": flows.preconditioned()}, {}
    state = make_task(**kwargs).init(KEY, batch)
    for start in (0.05, 0.5, 0.98):
        task = make_task(start=start, **kwargs)
        made[start] = np.asarray(task.complete(state, batch, KEY))
    far = [np.abs(255 * made[start] - batch["image"]).mean() for start in (0.05, 0.5, 0.98)]
    assert far[0] > far[1] > far[2]
    assert far[2] < 10  # of 255
    other = batch | {"image": batch["image"] * 0}
    task = make_task(start=0.5, **kwargs)
    assert np.abs(task.complete(state, other, KEY) - made[0.5]).max() > 1e-3
    part = {name: leaf[:3] for name, leaf in batch.items()}
    found = task.complete(state, part, KEY)
    np.testing.assert_allclose(found, made[0.5][:3], atol=1e-5)
