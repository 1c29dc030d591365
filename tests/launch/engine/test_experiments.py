"""From a config to compiled steps."""

from functools import partial
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from launch.config import schema
from launch.config.errors import UserError
from launch.data import batches, sources
from launch.engine import experiments, memory

LARGE = "tests.launch.engine.test_experiments:large"


@pytest.fixture(scope="module")
def evaluated(small_config):
    """Metrics of the whole test split at once, on one device."""
    return exact(small_config, 1)[0](359)


def exact(small, devices):
    """(batch size) -> metrics of the test split on so many devices; and the experiment."""
    config = schema.with_values(small, {"mesh.data": devices})
    data = batches.open_data(config.data, "test")
    experiment = experiments.build(config, data, training=False)
    state, step = experiments.initial_state(experiment), experiment.compiled.score_step
    evaluate = lambda size: experiments.evaluate(experiment, state, data, size, step)
    return evaluate, experiment


@pytest.mark.parametrize("devices", [1, 8])
def test_evaluation_is_exact_for_any_batch_size_and_device_count(small, evaluated, devices):
    evaluate, experiment = exact(small, devices)
    for batch_size in (7, 64):
        assert evaluate(batch_size) == pytest.approx(evaluated, rel=1e-6)
    assert experiments.metric_names(experiment) == evaluated.keys() - {
        "nll",
        "nll_bits_per_dim",
    }


def test_steps_that_memory_cannot_hold_are_refused_before_they_run(small, monkeypatch):
    _, experiment = exact(small, 1)
    compiled = experiment.compiled
    state, data = experiments.initial_state(experiment), batches.open_data(small.data, "test")
    monkeypatch.setattr(memory, "free_memory", lambda: {"here": 1})
    for name in ("eval_step", "score_step", "sample", "complete", "figures"):
        run = partial(experiments.evaluate, experiment, state, data, 64, getattr(compiled, name))
        with pytest.raises(UserError, match=rf"before {name}\(\) begins: .*\(--batch_size"):
            run()
    # Training is told of the keys of its config.
    shape = compiled.put_batch(next(batches.eval_batches(data, 8)))
    with pytest.raises(UserError, match=r"before training begins: .* config\.data\.batch_size \("):
        compiled.train(state, shape, 0)


def test_numbers_that_json_cannot_hold_become_null():
    found = experiments.for_json({"a": float("nan"), "b": float("inf"), "c": 1.5, "d": 3})
    assert found == {"a": None, "b": None, "c": 1.5, "d": 3}


def test_the_number_of_classes_comes_from_the_data(small):
    split = sources.Split((), 0, "digits", classes=("a", "b", "c"))
    assert experiments.with_classes(small, split) is small  # a task without classes
    with small.unlocked():
        small.task.classes = -1
    assert experiments.with_classes(small, split).task.classes == 3
    assert small.task.classes == -1  # a config stays as it is
    with pytest.raises(UserError, match="digits names no classes; give their number"):
        experiments.with_classes(small, sources.Split((), 0, "digits"))
    for count in (1, 2):
        small.task.classes = count
        with pytest.raises(UserError, match=f"classes={count}, but digits names 3 classes"):
            experiments.with_classes(small, split)
    nameless = sources.Split((), 0, "digits")
    assert experiments.with_classes(small, nameless) is small
    small.task.classes = 3
    assert experiments.with_classes(small, split) is small


def test_resident_data_above_its_limit_are_refused(small):
    small.data.update(resident=True, resident_mib=0)
    data = batches.open_data(small.data, "test")
    with pytest.raises(UserError, match=r"takes 0 MiB on each device, more than .*mib=0"):
        experiments.build(small, data)


def test_resident_data_up_to_their_limit_are_taken():
    arrays = {"image": np.zeros(3 * 2**20, np.uint8)}
    data = SimpleNamespace(arrays=arrays, split=sources.Split((), 0, "mine"))
    section = SimpleNamespace(resident=True, resident_mib=3)
    assert experiments._resident_arrays(data, section) is arrays
    section.resident_mib = 2
    with pytest.raises(UserError, match=r"mine takes 3 MiB on each device, more than .*mib=2"):
        experiments._resident_arrays(data, section)


def test_pmap_is_for_one_process(small, monkeypatch):
    small.parallel = "pmap"
    monkeypatch.setattr(experiments.jax, "process_count", lambda: 2)
    with pytest.raises(UserError, match='"pmap" is for one process'):
        experiments.build(small, None)
    data = batches.open_data(small.data, "train")  # to evaluate what was trained by it
    assert experiments.build(small, data, training=False, local=True).mesh.size == 1


def test_accumulation_is_refused_where_steps_are_not_sums(small, monkeypatch):
    small.train.accumulate = 2
    make = experiments.make_task
    once = lambda *args, **kwargs: (make(*args, **kwargs)[0]._replace(accumulates=False), {})
    monkeypatch.setattr(experiments, "make_task", once)
    data = batches.open_data(small.data, "test")
    with pytest.raises(UserError, match=r"accumulate=2: a step of jaxgen.vae:vae is not that of"):
        experiments.build(small, data)


def test_nets_without_a_dtype_compute_in_float32_alone():
    spec = {"name": "flax.linen:Sequential", "layers": ()}
    assert experiments.make_net(spec, "config.model").layers == ()
    with pytest.raises(UserError, match=r"flax.linen:Sequential takes no argument `dtype`"):
        experiments.make_net(spec, "config.model", "bfloat16")
    dense = {"name": "flax.linen:Dense", "features": 3}
    assert experiments.make_net(dense, "config.model", "bfloat16").dtype == jax.numpy.bfloat16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mesh.data": 3}, r"batch_size=32 is not divisible by 3 devices; use a multiple of 3"),
        ({"mesh.data": 8, "train.accumulate": 8}, r"8 devices x 8 micro-batches"),
        ({"mesh.data": 9}, r"needs 9 devices; there are 8"),
        ({"mesh.fsdp": 0}, r"use positive sizes"),
        ({"data.resident": True, "data.cache_mib": 0, "data.name": LARGE}, r"so it streams"),
        ({"task.classes": 3, "data.name": LARGE}, "needs examples with an"),
        (
            {"model.encoder.name": "jaxgen.nets:ConvEncoder", "model.encoder.widths": (4, 4, 4, 4)},
            r"init\(\) fails .*ValueError: 4 widths halve the image 4 times",
        ),
        ({"model.encoder.widht": 3}, "did you mean 'widths'"),
        ({"task.objective": "elbow"}, "objective must be elbo"),
        ({"task.name": ""}, 'config.task: expected a mapping with a "name", e.g. jaxgen.vae:vae'),
    ],
)
def test_what_cannot_work_is_named_before_anything_compiles(small, change, message):
    config = small.copy_and_resolve_references()
    with config.unlocked():
        config.update(nested(change))
    data = batches.open_data(config.data, config.data.split)
    with pytest.raises(UserError, match=message):
        experiments.build(config, data)


def large(split):
    return [{"image": np.zeros((20, 20, 1), np.uint8)}] * 3000


def nested(flat):
    """{"a.b": value} -> {"a": {"b": value}}, for keys that the config has not yet."""
    whole = {}
    for key, value in flat.items():
        *parents, last = key.split(".")
        place = whole
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return whole
