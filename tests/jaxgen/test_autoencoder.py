import jax
import numpy as np
import pytest

from jaxgen import autoencoder as module
from jaxgen.nets.latent_maps import MapDecoder, MapEncoder
from tests.jaxgen.optimizers import adam

KEY = jax.random.key(0)
SHAPE = (4, 4, 1)
LEVELS = (3, 4)


def nets(channels):
    return MapEncoder(channels, widths=(8, 8)), MapDecoder(1, widths=(8, 8))


def make_batch(count=8):
    image = np.random.default_rng(0).choice(np.array([0, 255], np.uint8), (count, *SHAPE))
    index = np.arange(count, dtype=np.int32)
    return {"image": image, "index": index, "mask": np.ones(count, bool)}


def make_task(channels=4, shape=SHAPE, **kwargs):
    example = {"image": jax.ShapeDtypeStruct(shape, np.uint8)}
    task = module.autoencoder(*nets(channels), adam(3e-3), example, **kwargs)
    names = "init", "train_step", "eval_step", "complete"
    return task._replace(**{name: jax.jit(getattr(task, name)) for name in names})


def trained(task, steps):
    batch = make_batch()
    state = task.init(KEY, batch)
    for step in range(steps):
        state, _ = task.train_step(state, batch, jax.random.fold_in(KEY, step))
    sums = jax.tree.map(np.float64, task.eval_step(state, batch, KEY))
    return state, task.finish(sums)


@pytest.fixture(scope="module")
def normal():
    task = make_task()
    return task, *trained(task, 300)


@pytest.fixture(scope="module")
def gridded():
    task = make_task(2, levels=LEVELS)
    return task, *trained(task, 300)


def test_training_lowers_the_error(normal, gridded):
    for task, _, after in (normal, gridded):
        before = trained(task, 0)[1]
        assert after["psnr"] > before["psnr"] + 3
        assert after["loss"] < 0.5 * before["loss"]
    assert normal[2]["kl"] > 1
    assert 0 < gridded[2]["codes_used"] <= 1
    assert 0 < gridded[2]["code_bits"] <= np.log2(12)


def test_the_loss_is_the_error_and_the_weighted_divergence():
    plain, weighed = make_task(kl=0.0), make_task(kl=0.5)
    _, found = trained(plain, 0)
    _, other = trained(weighed, 0)
    assert found["psnr"] == other["psnr"]
    assert found["loss"] == pytest.approx(4 / 10 ** (found["psnr"] / 10), rel=1e-5)
    assert other["loss"] == pytest.approx(found["loss"] + 0.5 * other["kl"] / 16, rel=1e-5)


def test_codes_are_counted_once_each():
    model = module.Model(*nets(2), SHAPE, 0.0, LEVELS)
    state, batch = trained(make_task(2, levels=LEVELS), 0)[0], make_batch()
    found, z = module.terms(model, state.params, batch, KEY)
    assert found["codes"].shape == (8, 12)
    np.testing.assert_array_equal(found["codes"].sum(1), 4)
    one = module.code_of(z, LEVELS)[0].reshape(-1)
    np.testing.assert_array_equal(found["codes"][0], np.bincount(one, minlength=12))


@pytest.mark.parametrize("fixture", ["normal", "gridded"])
def test_a_codec_gives_normalised_latents_and_the_images_back(fixture, request):
    task, state, _ = request.getfixturevalue(fixture)
    levels = LEVELS if fixture == "gridded" else ()
    codec, batch = task.codec(state), make_batch()
    assert codec.shape == (2, 2, 2)
    z = codec.encode(batch["image"], KEY, batch["index"])
    assert np.abs(z.mean((0, 1, 2))).max() < 0.1
    np.testing.assert_allclose(z.std((0, 1, 2)), 1, atol=0.1)
    wanted = task.complete(state, batch, KEY)
    np.testing.assert_allclose(codec.decode(z), wanted, atol=1e-4)
    assert codec.image_shape == SHAPE
    assert codec.levels == levels
    assert (codec.codes is None) == (codec.image_of is None) == (not levels)
    if levels:
        codes = codec.codes(batch["image"])
        assert codes.shape == (8, 2, 2, 2)
        np.testing.assert_allclose(codec.image_of(codes), wanted, atol=1e-5)
        np.testing.assert_allclose(codec.decode(z + 0.1), wanted, atol=1e-4)  # rounded


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"kl": -1.0}, "kl=-1.0"),
        ({"levels": (1, 4)}, "at least 2 each"),
        ({"shape": (4, 4)}, "uint8"),
    ],
)
def test_what_cannot_work_is_refused(kwargs, words):
    with pytest.raises(ValueError, match=words):
        make_task(**kwargs)


def test_nets_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="the encoder gives 4 channels"):
        make_task(4, levels=LEVELS).init(KEY, make_batch())
    example = {"image": jax.ShapeDtypeStruct(SHAPE, np.uint8)}
    task = module.autoencoder(nets(4)[0], MapDecoder(3, widths=(8, 8)), adam(1.0), example)
    with pytest.raises(ValueError, match=r"images \(4, 4, 3\)"):
        task.init(KEY, make_batch())


def test_padding_does_not_count():
    task, batch = make_task(), make_batch()
    state = task.init(KEY, batch)
    whole = task.eval_step(state, batch, KEY)
    more = {name: np.concatenate([leaf, leaf[:2]]) for name, leaf in batch.items()}
    more["mask"][8:] = False
    for name, value in task.eval_step(state, more, KEY).items():
        np.testing.assert_allclose(value, whole[name], rtol=1e-5)
    assert all(np.isfinite(value).all() for value in state.batch_stats.values())
