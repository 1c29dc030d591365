"""The models of an audit at any size, their parameters, and examples for them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from launch.audits import fixtures
from launch.audits.fixtures import AuditedModel, ModelFactory
from launch.config.errors import UserError
from tests.launch.audits import toy


def spec(dtype, *shape):
    return jax.ShapeDtypeStruct(shape, np.dtype(dtype))


EXAMPLE = {
    "image": spec("uint8", 4, 3, 1),
    "segmentation": spec("uint8", 4, 3, 1),
    "label": spec("int32"),
    "depth": spec("float32", 4, 3, 1),
    "grid": spec("float32", 4, 5),
}


def test_maps_of_the_images_size_change_with_it():
    resized = fixtures.resized(EXAMPLE, (8, 6, 3))
    assert {key: leaf.shape for key, leaf in resized.items()} == {
        "image": (8, 6, 3),
        "segmentation": (8, 6, 1),
        "label": (),
        "depth": (8, 6, 1),
        "grid": (4, 5),
    }
    assert all(resized[key].dtype == leaf.dtype for key, leaf in EXAMPLE.items())


def test_examples_are_the_same_at_every_call_and_within_range():
    model = AuditedModel(None, None, EXAMPLE, 3, "")
    batch, again = (fixtures.examples(model, 500) for _ in range(2))
    for key, array in batch.items():
        np.testing.assert_array_equal(array, again[key])
    assert {key: array.shape for key, array in batch.items()} == {
        key: (500, *leaf.shape) for key, leaf in EXAMPLE.items()
    } | {"index": (500,), "mask": (500,)}
    assert (batch["image"].min(), batch["image"].max()) == (0, 255)
    for key in ("segmentation", "label"):  # ids
        assert np.unique(batch[key]).tolist() == [0, 1, 2]
        assert batch[key].dtype == EXAMPLE[key].dtype
    assert batch["depth"].dtype == np.float32
    assert 0 <= batch["depth"].min() < 0.1 < 0.9 < batch["depth"].max() <= 1
    assert batch["index"].tolist() == list(range(500))
    assert batch["mask"].all()
    images = np.zeros((500, 4, 3, 1), np.uint8)
    assert fixtures.examples(model, 500, images)["image"] is images


class State(NamedTuple):
    params: dict


class Trained(NamedTuple):
    params: dict
    opt_state: dict


def test_noise_moves_each_kind_of_parameter_by_its_own_width():
    zeros = {
        "kernel": jnp.zeros((5, 5, 4, 200)),
        "bias": jnp.zeros(20_000),
        "count": jnp.zeros(3, int),
    }
    moved = fixtures.perturbed(State(zeros)).params
    assert float(jnp.std(moved["kernel"])) == pytest.approx(0.5 / 10, rel=0.03)
    assert float(jnp.std(moved["bias"])) == pytest.approx(0.25, rel=0.03)
    assert not moved["count"].any()
    assert fixtures.perturbed(5) == 5
    again = fixtures.perturbed(State(zeros)).params
    np.testing.assert_array_equal(again["bias"], moved["bias"])
    twice = fixtures.perturbed(State({"a": jnp.zeros(9), "b": jnp.zeros(9)})).params
    assert not np.array_equal(twice["a"], twice["b"])  # each has noise of its own


def test_the_moving_average_is_moved_too():
    params = {"bias": jnp.zeros(9)}
    moved = fixtures.perturbed(Trained(params, {"ema": params}))
    np.testing.assert_array_equal(moved.opt_state["ema"]["bias"], moved.params["bias"])
    assert np.abs(moved.params["bias"]).min() > 0


def test_rows_are_computed_in_chunks_of_one_shape():
    sizes = []

    def double(batch):
        sizes.append(len(batch["index"]))
        return 2 * batch["index"]

    result = fixtures.in_chunks(double, {"index": np.arange(10)}, 4)
    assert result.tolist() == list(range(0, 20, 2))
    assert sizes == [4, 4, 4]


def test_a_config_is_made_fit_without_a_change_to_it():
    config = ConfigDict(
        {
            "parallel": "pmap",
            "task": {"nll_samples": 5000},
            "optimizer": {"generator": {"name": "a", "ema": 0.9}, "other": {"name": "b"}},
        }
    )
    fit = fixtures.fit_for_audit(config, keep_ema=False)
    assert (fit.parallel, fit.task.nll_samples) == ("jit", 50)
    assert fit.optimizer.generator.ema == 0
    assert "ema" not in fit.optimizer.other
    assert (config.parallel, config.optimizer.generator.ema) == ("pmap", 0.9)
    config.task.nll_samples = 7
    fit = fixtures.fit_for_audit(config, keep_ema=True)
    assert (fit.task.nll_samples, fit.optimizer.generator.ema) == (7, 0.9)
    single = ConfigDict(
        {"parallel": "jit", "task": {}, "optimizer": {"name": "optax:sgd", "ema": 0.5}}
    )
    assert fixtures.fit_for_audit(single, keep_ema=False).optimizer.ema == 0
    single.optimizer.power_ema = (0.1,)
    assert "power_ema" not in fixtures.fit_for_audit(single, keep_ema=False).optimizer


def test_a_model_has_the_runs_parameters_where_they_fit():
    factory = toy.factory(classes=3)
    own = factory.at()
    assert (own.title, own.shape, own.classes) == ("untrained, 4 x 3 x 1", (4, 3, 1), 3)
    assert float(jnp.abs(own.state.params["b"]).min()) > 0  # moved away from zero
    trained = ModelFactory(factory.config, factory.data, own.state)
    assert trained.at().title == "trained, 4 x 3 x 1"
    assert trained.at().state is own.state
    assert trained.at((4, 3, 1), untrained=True).title == "untrained, 4 x 3 x 1"
    assert trained.at((3, 3, 1)).title == "untrained, 3 x 3 x 1"
    assert toy.factory().at().classes == 1


def test_states_are_the_same_by_tree_shape_and_dtype():
    state = {"a": np.zeros(3), "b": np.zeros(2)}
    assert fixtures._same_leaves(state, {"a": np.ones(3), "b": np.ones(2)})
    for other in (
        {"a": np.zeros(3)},
        {"a": np.zeros(3), "b": np.zeros(3)},
        {"a": np.zeros(3), "b": np.zeros(2, int)},
    ):
        assert not fixtures._same_leaves(state, other)


def test_the_first_size_that_fits_or_why_none_does():
    factory = toy.factory(smallest=9)
    model, reason = fixtures.first_that_fits(factory, [(1, 1, 1), (3, 3, 1), (4, 4, 1)])
    assert (model.shape, reason) == ((3, 3, 1), "")
    model, reason = fixtures.first_that_fits(factory, [(1, 1, 1), (2, 2, 1)])
    assert model is None
    assert reason.startswith("the net takes no 2 x 2 x 1: ")
    assert reason.endswith("needs 9 values")  # the first line


def test_the_first_line_of_an_error():
    assert fixtures.first_line(UserError("\none\ntwo")) == "one"
    assert fixtures.first_line(KeyError()) == "KeyError"
    assert fixtures.first_line(ValueError("x" * 200)) == "x" * 150
