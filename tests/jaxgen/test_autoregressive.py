from itertools import product

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgen import autoencoder
from jaxgen.autoregressive import Model, expected_log_prob, pixel_rnn
from jaxgen.likelihoods.pixels import binary, logistic_mixture, softmax
from jaxgen.nets.latent_maps import MapDecoder, MapEncoder
from jaxgen.nets.pixelcnn import PixelCNN
from jaxgen.nets.pixelrnn import PixelRNN
from tests.jaxgen.optimizers import adam

KEY = jax.random.key(0)
NETS = {
    "row": PixelRNN("row", 2, 6, 12, kernel=3),
    "diagonal": PixelRNN("diagonal", 1, 6, 12, kernel=3),
    "cnn": PixelCNN(2, 6, 12, first=3),
}
LIKELIHOODS = {"binary": binary(), "softmax": softmax(4), "mixture": logistic_mixture(2)}
# Likelihood, channels and classes, to draw images by.
CASES = [("binary", 1, 0), ("softmax", 3, 2), ("mixture", 3, 0)]
SHAPE = (4, 3, 1)


def make_batch(count=8, shape=SHAPE, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "image": rng.integers(0, 256, (count, *shape)).astype(np.uint8),
        "label": (np.arange(count) % 2).astype(np.int32),
        "index": np.arange(count, dtype=np.int32),
        "mask": np.ones(count, bool),
    }


def make_task(net, shape=SHAPE, likelihood=None, optimizer=None, **kwargs):
    example = {
        "image": jax.ShapeDtypeStruct(shape, np.uint8),
        "label": jax.ShapeDtypeStruct((), np.int32),
    }
    task = pixel_rnn(net, optimizer or optax.sgd(0.1), example, likelihood, **kwargs)
    compiled = ("init", "train_step", "eval_step", "sample", "complete", "log_prob")
    there = {name: getattr(task, name) for name in compiled}
    return task._replace(**{name: jax.jit(one) for name, one in there.items() if one})


def far_from_zero(task, batch, seed=0):
    """A state whose parameters are all random, so that no zero hides anything."""
    state, rng = jax.eval_shape(task.init, KEY, batch), np.random.default_rng(seed)
    normal = lambda leaf: jnp.asarray(0.5 * rng.normal(size=leaf.shape), leaf.dtype)
    zeros = lambda leaf: jnp.zeros(leaf.shape, leaf.dtype)
    params = jax.tree.map(normal, state.params)
    return state._replace(params=params, opt_state=jax.tree.map(zeros, state.opt_state))


def seen(net, shape, likelihood, classes=0):
    """Which values [D] each conditional [D] depends on, of some images and parameters."""
    task, batch = make_task(net, shape, likelihood, classes=classes), make_batch(1, shape)

    @jax.jit
    def slopes(state, x):
        one = lambda x: task.conditionals(state, x[None], batch)[0]
        return jnp.any(jax.vmap(jax.jacrev(one))(x) != 0, axis=(0, 4))

    images = np.random.default_rng(1).uniform(-0.9, 0.9, (4, *shape)).astype(np.float32)
    found = [slopes(far_from_zero(task, batch, seed), images) for seed in range(8)]
    size = int(np.prod(shape))
    return np.any(found, axis=0).reshape(size, size)


def earlier(shape):
    """[D, D]: what comes before a value, as rows, then columns, then channels count."""
    places = list(np.ndindex(*shape))
    return np.array([[other < place for other in places] for place in places])


def total(net, shape, likelihood, levels, label=None):
    """The probability of all images of so many levels."""
    values = np.ceil(np.arange(levels) * 256 / levels) if levels > 2 else [0, 255]
    image = np.array(list(product(values, repeat=int(np.prod(shape)))))
    batch = make_batch(len(image), shape) | {"image": image.reshape(-1, *shape).astype(np.uint8)}
    classes = 0 if label is None else 2
    batch["label"] = np.full(len(image), label or 0)
    task = make_task(net, shape, likelihood, classes=classes)
    found = np.asarray(task.log_prob(far_from_zero(task, batch), batch, KEY), np.float64)
    assert np.ptp(found) > 1
    return np.exp(found).sum()


def check_draws(net, name, channels, classes):
    """The same images, however they are drawn, and what is given of them stays."""
    shape, rows = (4, 3, channels), 1
    likelihood = LIKELIHOODS[name]
    if name == "binary":  # tell the value itself too, not only how probable white was
        grey = likelihood.show
        likelihood = likelihood._replace(show=lambda x, parameters: 2 * x + grey(x, parameters))
    batch, found = make_batch(6, shape), []
    for cached in (True, False):
        task = make_task(net, shape, likelihood, classes=classes, given_rows=rows, cached=cached)
        # A sample is a completion of no rows: the binary case checks both.
        images = {"completed": task.complete} | (
            {"sample": task.sample} if name == "binary" else {}
        )
        state = far_from_zero(task, batch)
        found.append({key: np.asarray(make(state, batch, KEY)) for key, make in images.items()})
    for key, two in found[1].items():
        assert np.ptp(two) > 0.3
        np.testing.assert_allclose(found[0][key], two, atol=1e-5)
    completed = found[0]["completed"]
    np.testing.assert_array_equal(np.round(255 * completed[:, :rows]), batch["image"][:, :rows])
    np.testing.assert_allclose(255 * completed[:, :rows], batch["image"][:, :rows], rtol=2e-7)
    if name == "binary":
        assert np.abs(completed[0, rows:] - found[0]["sample"][0, rows:]).max() > 0.1


@pytest.mark.parametrize("name", NETS)
def test_an_image_belongs_to_its_seed_and_class(name):
    task, batch = make_task(NETS[name], classes=2), make_batch(8)
    state = far_from_zero(task, batch)
    index = np.array([3, 9, 3, 3])
    found = task.sample(state, {"index": index, "label": np.array([0, 0, 0, 1])}, KEY)
    other = task.sample(state, {"index": np.array([9, 3]), "label": np.zeros(2, np.int32)}, KEY)
    assert found.shape == (4, *SHAPE)
    assert 0 <= found.min() < found.max() <= 1
    np.testing.assert_allclose(found[0], found[2], atol=1e-6)
    np.testing.assert_allclose(other, found[jnp.array([1, 0])], atol=1e-6)
    for another in (found[1], found[3]):
        assert np.abs(found[0] - another).max() > 1e-3


def test_a_completion_belongs_to_its_seed_and_what_is_given():
    task, batch = make_task(NETS["cnn"], given_rows=1), make_batch(6)
    state = far_from_zero(task, batch)
    found = task.complete(state, batch, KEY)
    order = np.array([5, 1])
    other = {name: leaf[order] for name, leaf in batch.items()}
    other["image"] = other["image"].copy()
    other["image"][:, 1:] = 7  # not given
    np.testing.assert_allclose(task.complete(state, other, KEY), found[order], atol=1e-6)
    other["index"] = np.array([50, 51])
    assert np.abs(task.complete(state, other, KEY) - found[order])[:, 1:].max() > 1e-3


@pytest.mark.parametrize("name", NETS)
def test_samples_have_the_probability_that_the_model_gives_them(name):
    task = make_task(NETS[name], (2, 1, 1), binary()._replace(show=lambda x, parameters: x))
    batch = make_batch(4, (2, 1, 1))
    batch["image"] = 255 * np.array(list(product([0, 1], repeat=2)), np.uint8).reshape(4, 2, 1, 1)
    state = far_from_zero(task, batch, 1)
    wanted = np.exp(task.log_prob(state, batch, KEY))
    drawn = np.asarray(task.sample(state, {"index": np.arange(4000)}, KEY)).reshape(-1, 2)
    counts = np.bincount((drawn @ np.array([2, 1])).astype(int), minlength=4)
    np.testing.assert_allclose(counts / 4000, wanted, atol=0.03)


@pytest.mark.parametrize("name", NETS)
def test_every_parameter_learns_and_the_loss_falls(name):
    shape = (4, 3, 3)
    task = make_task(NETS[name], shape, optimizer=adam(2e-2), classes=2)
    batch = make_batch(8, shape) | {"image": make_batch(8, shape)["image"] // 128 * 255}
    state = far_from_zero(task, batch)
    after, _ = task.train_step(state, batch, KEY)
    moved = jax.tree.map(lambda one, two: bool((one != two).any()), state.params, after.params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after.params))
    still = [
        jax.tree_util.keystr(path)
        for path, value in jax.tree_util.tree_leaves_with_path(moved)
        if not value
    ]
    # Nothing follows the last layer's stack of the rows above but its link.
    assert still == (["['_Gated_1']['vertical_condition']['kernel']"] if name == "cnn" else [])
    losses, state = [], task.init(KEY, batch)
    for number in range(60):
        state, sums = task.train_step(state, batch, jax.random.fold_in(KEY, number))
        losses.append(task.finish(jax.device_get(sums))["loss"])
    assert losses[-1] < 0.6 * 36 * np.log(2) < losses[0]


def test_sums_count_examples_alone_and_become_bits():
    task, batch = make_task(NETS["cnn"], classes=2), make_batch(8)
    state = far_from_zero(task, batch)
    padded = batch | {"mask": np.arange(8) < 5, "label": np.where(np.arange(8) < 5, 1, 77)}
    known = batch | {"label": np.where(np.arange(8) < 5, 1, 0)}
    nats = -np.asarray(task.log_prob(state, known, KEY), np.float64)[:5]
    sums = jax.device_get(task.eval_step(state, padded, KEY))
    assert sums["count"] == 5
    metrics = task.finish(sums)
    assert metrics["loss"] == metrics["nll"] == pytest.approx(nats.mean(), rel=1e-6)
    assert metrics["nll_bits_per_dim"] == pytest.approx(nats.mean() / (12 * np.log(2)), rel=1e-6)
    assert set(metrics) == {"loss", "nll", "nll_bits_per_dim"}


@pytest.mark.parametrize(("name", "likelihood"), zip(NETS, LIKELIHOODS, strict=True))
def test_a_class_out_of_range_is_never_silent(name, likelihood):
    task, batch = make_task(NETS[name], SHAPE, LIKELIHOODS[likelihood], classes=2), make_batch(4)
    state = far_from_zero(task, batch)
    for bad in (-1, 2):
        wrong = batch | {"label": np.array([0, 1, bad, 1])}
        assert np.isnan(task.train_step(state, wrong, KEY)[1]["loss"])
        assert np.isnan(task.log_prob(state, wrong, KEY)).tolist() == [False, False, True, False]


def test_evaluation_and_images_use_the_moving_average():
    ema = optax.chain(
        optax.sgd(1.0),
        optax.GradientTransformation(
            lambda params: {"ema": jax.tree.map(jnp.zeros_like, params)},
            lambda updates, state, params=None: (updates, state),
        ),
    )
    task, batch = make_task(NETS["row"], optimizer=ema), make_batch(4)
    state = far_from_zero(task, batch)  # whose average is zero: a coin for every pixel
    np.testing.assert_allclose(task.log_prob(state, batch, KEY), -12 * np.log(2), rtol=1e-6)
    np.testing.assert_array_equal(task.sample(state, batch, KEY), 0.5)
    x = np.zeros((4, *SHAPE), np.float32)
    assert not np.asarray(jax.jit(task.conditionals)(state, x, batch)).any()
    loss = task.train_step(state, batch, KEY)[1]["loss"]
    assert abs(loss - 4 * 12 * np.log(2)) > 0.1


def test_figures_are_images():
    for classes, count in ((0, 10), (2, 4)):
        task, batch = make_task(NETS["cnn"], classes=classes), make_batch(count)
        figures = jax.eval_shape(task.figures, far_from_zero(task, batch), batch, KEY)
        shapes = {name: figure.shape for name, figure in figures.items()}
        assert shapes == {"samples": (64, *SHAPE), "completions": (min(count, 8), 8, *SHAPE)}
    assert task.given == "image"


class Means(nn.Module):
    """A net of someone's own, without a cache: of all rows above, their mean."""

    outputs: int = 1
    groups: int = 1

    @nn.compact
    def __call__(self, x, condition=None):
        above = jnp.cumsum(jnp.mean(x, (2, 3)), 1) - jnp.mean(x, (2, 3))
        above = jnp.broadcast_to(above[:, :, None, None], (*x.shape[:3], 1))
        if condition is not None:
            above = above + (condition @ jnp.arange(1.0, 3.0))[:, None, None, None]
        return nn.Dense(self.outputs, bias_init=nn.initializers.ones)(above)


def test_a_net_without_a_cache_draws_too():
    task, batch = make_task(Means(), cached=False), make_batch(4)
    state = task.init(KEY, batch)
    images = task.sample(state, batch, KEY)
    np.testing.assert_allclose(images[:, 0], 1 / (1 + np.exp(-1)), rtol=1e-5)
    completed = task.complete(state, batch, KEY)
    np.testing.assert_allclose(255 * completed[:, :2], batch["image"][:, :2], rtol=2e-7)
    # What is observed of an image is drawn with a key of its own, and decides what follows.
    x = binary().observe(batch["image"], jax.random.fold_in(KEY, 0), batch["index"])
    logits = np.asarray(jax.jit(task.conditionals)(state, x, batch))[..., 0]
    score = lambda x: (x * logits - np.logaddexp(0, logits)).sum((1, 2, 3))
    np.testing.assert_allclose(task.log_prob(state, batch, KEY), score(x), rtol=1e-5)
    loss = task.train_step(state, batch, KEY)[1]["loss"]
    assert loss == pytest.approx(-score(batch["image"] / 255).sum(), rel=1e-5)
    np.testing.assert_allclose(completed[:, 2], 1 / (1 + np.exp(-logits[:, 2])), rtol=1e-5)
    # A net is taken to have a cache unless it is said to have none.
    with pytest.raises(KeyError, match="cache"):
        jax.eval_shape(make_task(Means()).sample, state, batch, KEY)


def test_figures_show_samples_of_each_class_and_completions():
    task, batch = make_task(Means(), classes=2, given_rows=1, cached=False), make_batch(10)
    state = task.init(KEY, batch)
    figures = jax.device_get(jax.jit(task.figures)(state, batch, KEY))
    seeds = {"index": np.arange(64), "label": np.arange(64) % 2}
    np.testing.assert_allclose(figures["samples"], task.sample(state, seeds, KEY), atol=1e-5)
    rows, image = figures["completions"], batch["image"][:8] / 255.0
    np.testing.assert_allclose(rows[:, -1], image, atol=1e-6)
    np.testing.assert_allclose(rows[:, :-1, :1], np.stack([image[:, :1]] * 7, 1), atol=1e-6)
    assert (rows[:, 0, 1:] == 0.5).all()
    first = {name: leaf[:8] for name, leaf in batch.items()}
    for number in (0, 5):
        wanted = task.complete(state, first, jax.random.fold_in(KEY, number))
        np.testing.assert_allclose(rows[:, 1 + number], wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("net", "options", "message"),
    [
        ("row", {"given_rows": 4}, "given_rows must be 0 to 3 of 4, got 4"),
        ("row", {"given_rows": -1}, "given_rows must be 0 to 3 of 4, got -1"),
        ("cnn", {"classes": -1}, "classes must be 0"),
        (PixelRNN("column"), {}, "layer must be row or diagonal, got 'column'"),
        (PixelRNN("row", kernel=4), {}, "odd and at least 3, got 4"),
        (PixelCNN(first=1), {}, "odd and at least 3, got 1"),
        (PixelRNN("diagonal", features=2), {"shape": (4, 3, 3)}, "give more features"),
    ],
)
def test_arguments_outside_their_range_are_refused(net, options, message):
    shape = options.get("shape", SHAPE)
    for rows in (0, 3):
        make_task(NETS["row"], given_rows=rows)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(make_task(NETS.get(net, net), **options).init, KEY, make_batch(2, shape))


def test_examples_without_labels_are_refused():
    example = {"image": jax.ShapeDtypeStruct(SHAPE, np.uint8)}
    with pytest.raises(ValueError, match="needs examples with an integer `label`"):
        pixel_rnn(NETS["row"], optax.sgd(1.0), example, classes=3)


@pytest.mark.parametrize("likelihood", ["binary", "softmax", "mixture", "codes"])
def test_no_image_is_drawn_of_a_class_that_does_not_exist(likelihood):
    shape = (4, 4, 1)
    kwargs = {"likelihood": LIKELIHOODS.get(likelihood)}
    kwargs |= {"codec": make_codec()} if likelihood == "codes" else {}
    task = make_task(NETS["row"], shape, classes=2, **kwargs)
    state = far_from_zero(task, make_batch(8, shape))
    seeds = {"index": np.arange(3, dtype=np.int32), "label": np.array([0, 2, 1], np.int32)}
    images = np.asarray(task.sample(state, seeds, KEY))
    assert np.isnan(images[1]).any()
    assert np.isfinite(images[[0, 2]]).all()


@pytest.mark.parametrize("name", NETS)
def test_training_on_grey_levels_has_the_expectation_of_training_on_draws(name):
    shape, grey = (2, 2, 1), np.array([30, 200, 128, 255], np.uint8)
    drawn = np.array(list(product([0.0, 1.0], repeat=4)), np.float32)
    share = np.prod(np.where(drawn == 1, grey / 255, 1 - grey / 255), axis=1)
    batch = make_batch(16, shape) | {"image": np.tile(grey, 16).reshape(16, *shape)}
    # Every binarisation once, in place of one at random.
    fixed = binary()._replace(observe=lambda *_: jnp.asarray(drawn.reshape(16, *shape)))
    task = make_task(NETS[name], shape, fixed)
    state = far_from_zero(task, batch)
    model = Model(NETS[name].clone(outputs=1, groups=1), fixed, shape, 0, 1, True)
    expected = expected_log_prob(model, state.params, batch, KEY)
    exact = np.asarray(task.log_prob(state, batch, KEY))
    assert np.abs(expected - exact).max() > 0.1
    np.testing.assert_allclose(share @ expected, share @ exact, rtol=1e-5)


def make_codec(levels=(3, 2)):
    """Of an auto-encoder of images 4 x 4, with codes 2 x 2, that has not been trained."""
    nets = MapEncoder(2 if levels else 4, widths=(8, 8)), MapDecoder(1, widths=(8, 8))
    example = {"image": jax.ShapeDtypeStruct((4, 4, 1), np.uint8)}
    task = autoencoder.autoencoder(*nets, adam(1e-3), example, levels=levels)
    state = task.init(KEY, make_batch(1, (4, 4, 1)))
    return autoencoder.codec(autoencoder.Model(*nets, (4, 4, 1), 0.0, levels), state)


def test_the_probabilities_of_all_codes_sum_to_one():
    levels, shape = (3, 2), (4, 4, 1)
    one = list(product(*map(range, levels)))
    codes = np.array(list(product(one, repeat=4)), np.int32).reshape(-1, 2, 2, 2)
    # Whatever the images are, their codes are all that there can be.
    codec = make_codec(levels)._replace(codes=lambda image: jnp.asarray(codes)[: len(image)])
    task, batch = make_task(NETS["cnn"], shape, codec=codec), make_batch(len(codes), shape)
    state = far_from_zero(task, batch)
    found = np.asarray(task.log_prob(state, batch, KEY), np.float64)
    assert np.ptp(found) > 1
    assert np.exp(found).sum() == pytest.approx(1.0, abs=1e-5)
    sums = task.eval_step(state, batch, KEY)
    metrics = task.finish(jax.tree.map(np.float64, sums))
    assert metrics["code_bits"] == pytest.approx(-found.mean() / np.log(2) / 4, rel=1e-5)


def test_samples_of_codes_are_images_of_codes_that_exist():
    codec, shape = make_codec(), (4, 4, 1)
    as_they_are = codec._replace(image_of=lambda codes: codes.astype(jnp.float32))
    task = make_task(NETS["cnn"], shape, codec=as_they_are)
    batch = make_batch(32, shape)
    state = far_from_zero(task, batch)
    drawn = np.asarray(task.sample(state, batch, KEY))
    assert drawn.shape == (32, 2, 2, 2)
    np.testing.assert_array_equal(drawn.min((0, 1, 2)), 0)
    np.testing.assert_array_equal(drawn.max((0, 1, 2)), (2, 1))
    assert task.complete is None
    images = make_task(NETS["cnn"], shape, codec=codec).sample(state, batch, KEY)
    np.testing.assert_allclose(images, codec.image_of(drawn.astype(np.int32)), atol=1e-5)


@pytest.mark.parametrize(
    ("levels", "shape", "options", "words"),
    [
        ((), (4, 4, 1), {}, "has no codes"),
        ((3, 2), (4, 3, 1), {}, r"for images \(4, 4, 1\); these are \(4, 3, 1\)"),
        ((3, 2), (4, 4, 1), {"likelihood": binary()}, "their own likelihood"),
        ((3, 2), (4, 4, 1), {"given_rows": 0}, "nothing is completed"),
    ],
)
def test_a_codec_that_does_not_fit_is_refused(levels, shape, options, words):
    with pytest.raises(ValueError, match=words):
        make_task(NETS["cnn"], shape, codec=make_codec(levels), **options)
