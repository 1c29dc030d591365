from pathlib import Path

import pytest
from ml_collections import ConfigDict

from launch.config import loading, schema
from launch.config.errors import UserError

NAN, INF = float("nan"), float("inf")
VAE = str(Path(__file__).parents[3] / "configs" / "vae.py")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("data.batch_size", 0, "config.data.batch_size must be at least 1"),
        ("seed", -1, "config.seed must be in"),
        ("parallel", "tpu", "must be jit or pmap, got 'tpu'"),
        ("dtype", "float16", "float32 or bfloat16"),
        ("train.accumulate", 7, "accumulate=7 does not divide"),
        ("train.remat", "block", "must be nothing, blocks or all, got 'block'"),
        ("train.steps_per_dispatch", 7, "is not a multiple of"),
        ("data.resident", False, "needs config.data.resident = True"),
        ("eval.every", 3000, "is not a multiple of eval.every"),
        ("seed", 2**31, "config.seed must be in"),
        ("score.samples", -1, "score.samples must be 0 or more"),
        ("data.damaged", 1.0, "is a share in"),
        ("data.damaged", -0.1, "is a share in"),
        ("checkpoint.keep", 0, "checkpoint.keep must be at least 1"),
        ("log.every", -5, "log.every must be at least 1"),
        ("nonfinite.action", "ignore", "stop, skip or rollback, got 'ignore'"),
        ("collapse.action", "restart", "stop or rollback, got 'restart'"),
    ],
)
def test_values_that_cannot_work_are_named(key, value, message):
    config = loading.load(VAE)
    config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=message):
        schema.check_values(config)


@pytest.mark.parametrize(
    "values",
    [
        {"seed": 2**31 - 1},
        {"data.damaged": 0.0},
        {"data.damaged": 0.99, "dtype": "bfloat16"},
        {"checkpoint.keep": 1, "score.samples": 0},
        {"train.steps_per_dispatch": 1, "data.resident": False, "parallel": "pmap"},
        {"checkpoint.best": "", "eval.every": 3000},
        {"train.remat": "blocks"},
        {"train.remat": "all"},
    ],
    ids=str,
)
def test_values_at_the_limits_pass(values):
    config = loading.load(VAE)
    config.update_from_flattened_dict(values)
    schema.check_values(config)


@pytest.mark.parametrize(
    "values", [{"data.resident": True}, {"mesh.fsdp": 2}, {"train.remat": "blocks"}]
)
def test_pmap_takes_neither_resident_data_nor_fsdp_nor_remat(values):
    config = loading.load(VAE)
    plain = {"train.steps_per_dispatch": 1, "data.resident": False, "parallel": "pmap"}
    config.update_from_flattened_dict(plain | values)
    with pytest.raises(UserError, match=r"takes neither data.resident, mesh.fsdp nor train.remat"):
        schema.check_values(config)


def test_keys_by_their_dotted_names():
    config = schema.defaults()
    assert schema.value_at(config, "data.cache_mib") == 2048
    assert schema.flatten({"a": {"b": 1, "c": {}}, "d": [2]}) == {"a.b": 1, "a.c": {}, "d": [2]}
    assert schema.unknown_key("train.stepps") == "'train.stepps'; did you mean 'train.steps'?"
    assert schema.unknown_key("zzz") == "'zzz'"


def test_documented_defaults():
    flat = schema.flatten(schema.defaults().to_dict())
    known = {
        "seed": 0,
        "dtype": "float32",
        "data.batch_size": 128,
        "data.cache_mib": 2048,
        "data.resident": False,
        "data.resident_mib": 2048,
        "data.damaged": 0.0,
        "data.threads": 4,
        "data.workers": -1,
        "train.steps": 1000,
        "train.steps_per_dispatch": 1,
        "train.accumulate": 1,
        "eval.every": 1000,
        "eval.batch_size": 128,
        "checkpoint.every": 1000,
        "checkpoint.keep": 2,
        "log.every": 100,
        "collapse.after": 0,
        "collapse.times": 3,
        "nonfinite.times": 3,
        "score.samples": 0,
        "predict.window": 0,
        "predict.overlap": 0.5,
        "predict.scale": 0.0,
        "mesh.data": -1,
        "mesh.fsdp": 1,
    }
    assert {key: flat[key] for key in known} == known


def test_settings_of_a_collapse_need_a_best_to_go_back_to():
    config = schema.defaults()
    for rule, action in (("", "rollback"), ("quality >= 1", "stop")):
        config.collapse.update({"rule": rule, "action": action})
        schema.check_values(config)
    config.collapse.update({"rule": "quality >= 1", "action": "rollback"})
    with pytest.raises(UserError, match=r"config\.checkpoint\.best"):
        schema.check_values(config)
    config.checkpoint.best = "quality"
    schema.check_values(config)


@pytest.mark.parametrize(
    ("section", "value", "message"),
    [
        (
            "optimizer",
            {"learning_rate": float("nan")},
            r"config.optimizer.learning_rate .*, got nan",
        ),
        (
            "optimizer",
            {"schedule": {"end": float("inf")}},
            r"optimizer.schedule.end must be finite",
        ),
        ("model", {"widths": [1, (2.0, float("-inf"))]}, r"config.model.widths must be finite"),
        ("task", {"each": [{"weight": float("nan")}]}, r"config.task.each must be finite"),
    ],
)
def test_numbers_that_are_not_finite_are_refused(section, value, message):
    config = schema.with_values(schema.defaults(), {section: value})
    with pytest.raises(UserError, match=message):
        schema.check_values(config)


def test_all_other_values_may_be_anything():
    value = {"text": "nan", "numbers": [1, (2.5, None)], "each": [{"a": True}]}
    schema.check_values(schema.with_values(schema.defaults(), {"task": value}))


def test_a_key_is_in_a_section_or_below_it():
    assert schema.is_in("data.kwargs.size", ("seed", "data.kwargs"))
    assert schema.is_in("data.kwargs", ("data.kwargs",))
    assert not schema.is_in("data.kwargsize", ("data.kwargs",))


def test_numbers_as_keys_become_text_as_in_config_json():
    tree = ConfigDict({"a": {"b": {100: 0.1, 5: {7: 2}}}, "c": 3})
    assert schema.with_text_keys(tree) is tree
    assert tree.to_dict() == {"a": {"b": {"100": 0.1, "5": {"7": 2}}}, "c": 3}


def test_numbers_beyond_32_bits_are_refused():
    for value in (3.5e38, -1e300):
        config = schema.with_values(schema.defaults(), {"model": {"scale": value}})
        with pytest.raises(UserError, match=r"config.model.scale must be finite.*32 bits"):
            schema.check_values(config)
    schema.check_values(schema.with_values(schema.defaults(), {"model": {"scale": -3.4e38}}))
