"""Exported functions give what the runs give; each family is exported once."""

import functools
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

import launch
from jaxgen.task import Task
from launch.config.errors import UserError
from launch.engine import experiments, trained_runs
from launch.exported import golden, tracing
from launch.exported.tracing import ExportedFunction
from tests.launch.exported import families


@functools.cache
def exported(name, what=None):
    """A run, its function, and the program."""
    restored = families.restored_of(name)
    function = tracing.make_function(restored, tracing.choose(restored, what))
    return restored, function, tracing.export_function(function, name)


@pytest.mark.parametrize(
    ("name", "what", "function"),
    [
        ("gan", None, "sample"),
        ("vae", "complete", "complete"),
        ("pixels", None, "sample"),
        ("flow", None, "sample"),
        ("flow", "complete", "complete"),
        ("painter", None, "complete"),
        ("unet", None, "predict"),
    ],
)
def test_the_program_gives_what_the_run_gives(name, what, function):
    restored, chosen, program = exported(name, what)
    assert chosen.name == function
    assert program.platforms == ("cpu", "cuda", "tpu")
    rows = 1 if name == "pixels" else 3  # that net takes long to compile
    inputs = golden.examples(restored, chosen, rows)
    expected = golden.reference(restored, chosen, inputs)
    found = jax.jit(program.call)(chosen.parameters, inputs)
    assert found.keys() == expected.keys()
    for key, array in expected.items():
        assert found[key].dtype == array.dtype
        apart = np.abs(np.asarray(found[key], np.float64) - array)
        assert apart.max() <= (1 if array.dtype == np.uint8 else 1e-5)
        assert array.dtype != np.uint8 or np.count_nonzero(apart) <= 1


def test_a_segmenter_gives_labels():
    restored, function, program = exported("unet")
    assert set(function.inputs) == {"image"}
    image = np.stack([row["image"] for row in restored.data.split.records][:3])
    found = jax.jit(program.call)(function.parameters, {"image": image})
    assert set(found) == {"probability", "entropy", "labels"}
    np.testing.assert_array_equal(found["labels"], found["probability"].argmax(-1))
    assert found["labels"].dtype == np.uint8


def test_an_image_depends_on_its_seed_and_class_only():
    _, function, program = exported("gan")
    call = jax.jit(program.call)
    rows = {"seeds": np.array([7, 2, 7], np.int32), "labels": np.array([1, 1, 0], np.int32)}
    images = np.asarray(call(function.parameters, rows)["images"]).astype(int)
    again = {"seeds": np.array([0, 9, 7], np.int32), "labels": np.array([0, 0, 1], np.int32)}
    assert np.abs(np.asarray(call(function.parameters, again)["images"])[2] - images[0]).max() <= 1
    assert (images[0] != images[1]).any()
    assert (images[0] != images[2]).any()


def test_completion_keeps_the_pixels_that_it_is_told_to():
    restored, function, program = exported("flow", "complete")
    assert {"image", "keep", "seeds"} <= set(function.inputs)
    inputs = golden.examples(restored, function, 3)
    assert 0 < inputs["keep"].mean() < 1
    found = np.asarray(jax.jit(program.call)(function.parameters, inputs)["images"])
    same = found == inputs["image"]
    assert same[np.broadcast_to(inputs["keep"], same.shape)].all()
    assert not same.all()


def test_only_what_is_read_is_stored():
    restored, function, program = exported("gan")
    generator = jax.tree.leaves(restored.state.params["generator"])
    assert all(name.startswith("opt_state/generator/1/ema/") for name in function.parameters)
    assert len(function.parameters) == len(generator)
    assert len(program.serialize()) < 50_000


def test_a_program_says_nothing_of_the_machine():
    program = bytes(exported("unet")[2].serialize())
    assert b"nets/unet.py" in program
    assert str(Path(launch.__file__).parents[1]).encode() not in program
    assert sys.prefix.encode() not in program


def restored_with(**functions):
    task = Task(*[None] * 5, **functions)
    compiled = SimpleNamespace(**{name: functions.get(name) for name in tracing.FUNCTIONS})
    experiment = experiments.Experiment(task, compiled, None, {})
    config = ConfigDict({"task": {"name": "mine:task"}})
    return trained_runs.Restored(config, None, experiment, None, 0)


def draw(state, batch, rng):
    return batch["image"]


def test_the_first_function_that_a_task_has_is_the_default():
    both = restored_with(sample=draw, complete=draw, given="image")
    assert tracing.choose(both, None) == "sample"
    assert tracing.choose(both, "complete") == "complete"
    assert tracing.choose(restored_with(complete=draw, given="image"), None) == "complete"
    with pytest.raises(UserError, match=r"--what=predict: mine:task has no predict\(\); it has sa"):
        tracing.choose(both, "predict")


@pytest.mark.parametrize("functions", [{}, {"complete": draw}])
def test_a_task_without_these_functions_is_named(functions):
    message = r"mine:task has no predict\(\), sample\(\) or complete\(\): nothing to export"
    with pytest.raises(UserError, match=message):
        tracing.choose(restored_with(**functions), None)


def of_seeds(function):
    seeds = {"seeds": jax.ShapeDtypeStruct((), np.int32)}
    return ExportedFunction("sample", {}, seeds, seeds, lambda _, inputs: function(inputs["seeds"]))


def test_a_function_that_counts_its_rows_is_exported_row_by_row():
    counting = of_seeds(lambda seeds: {"images": jnp.zeros((len(seeds), 2)) + seeds[:, None]})
    program = tracing.export_function(counting, "mine")
    found = program.call({}, {"seeds": np.arange(3, dtype=np.int32)})
    np.testing.assert_array_equal(found["images"], [[0, 0], [1, 1], [2, 2]])


def test_what_jax_cannot_export_is_a_mistake():
    like = jax.ShapeDtypeStruct((), np.float32)
    asking = lambda seeds: jax.vmap(
        lambda seed: jax.pure_callback(np.sin, like, seed, vmap_method="sequential")
    )(seeds * 1.0)
    with pytest.raises(UserError, match=r"mine: sample\(\) cannot be exported for cpu, cuda, tpu"):
        tracing.export_function(of_seeds(asking), "mine")


def test_a_function_that_cannot_be_traced_is_a_mistake():
    restored = families.restored_of("spots")
    wrong = lambda state, batch, rng: batch["image"]
    experiment = restored.experiment._replace(task=restored.experiment.task._replace(sample=wrong))
    with pytest.raises(UserError, match=r"spots: sample\(\) cannot be exported.*KeyError: 'image'"):
        tracing.make_function(restored._replace(experiment=experiment), "sample")


def test_outputs_are_grey_levels_and_decisions():
    images = jnp.array([-1.0, 0.0, 0.49 / 255, 0.51 / 255, 1.0, 7.0, jnp.nan, jnp.inf])
    found = tracing.to_outputs(images)["images"]
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, [0, 0, 0, 1, 255, 255, 0, 255])
    levels = jnp.arange(3, dtype=jnp.uint8)
    assert tracing.grey_levels(levels) is levels
    chances = {"probability": jnp.array([[0.2, 0.5, 0.3]]), "entropy": jnp.ones(1)}
    found = tracing.to_outputs(chances)
    assert (set(found), found["labels"].tolist()) == ({"probability", "entropy", "labels"}, [1])
    many = tracing.to_outputs({"probability": jnp.zeros((1, 300)).at[0, 299].set(1)})["labels"]
    assert (many.dtype, many.tolist()) == (np.uint16, [299])
    assert tracing.to_outputs({"probability": jnp.zeros((1, 256))})["labels"].dtype == np.uint8
    assert set(tracing.to_outputs({"depth": levels})) == {"depth"}
