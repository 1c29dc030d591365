"""Flags of a config: what they set, what they leave out, what follows them, what they refuse."""

import logging

import pytest
from ml_collections import ConfigDict

from launch.config import loading
from launch.config.errors import UserError


def schedule(init_value, decay_steps, floor=0.0):
    """A stand-in for a schedule."""


def focal(gamma=2.0):
    """A stand-in for a loss."""


def any_of(**kwargs):
    """An object that takes anything."""


HERE = "tests.launch.config.test_overrides"


@pytest.fixture
def config():
    config = ConfigDict()
    config.task = {
        "name": f"{HERE}:any_of",
        "loss": {"name": f"{HERE}:schedule", "init_value": 1.0, "terms": ({"name": "a:b"}, 3)},
        "widths": (3, 4),
        "nothing": None,
    }
    config.train = {"steps": 100}
    steps = config.train.get_ref("steps")
    rate = {"name": f"{HERE}:schedule", "init_value": 0.1}
    config.optimizer = {"name": "optax:adamw", "weight_decay": 0.1, "ema": 0.9, "clip_norm": 1.0}
    config.optimizer.learning_rate = rate | {"decay_steps": steps, "floor": steps // 2}
    config.data = {"augment": [{"name": "a:b"}]}
    return loading.with_defaults(config, "mine.py")


@pytest.fixture
def given(config, caplog):
    """(flags) -> the config with them; what is said is in `caplog`."""
    caplog.set_level(logging.INFO, "segen")
    logging.getLogger("segen").propagate = True
    return lambda *flags: loading.override(config, [f"--config.{flag}" for flag in flags])


@pytest.mark.parametrize(
    ("flag", "key", "value"),
    [
        ("seed=7", "seed", 7),
        ("data.resident=True", "data.resident", True),
        *((f"data.resident={word}", "data.resident", True) for word in ("t", "1", "TRUE")),
        *((f"data.resident={word}", "data.resident", False) for word in ("F", "0", "false")),
        ("data.damaged=0", "data.damaged", 0.0),
        ("data.split=train[:5]=x", "data.split", "train[:5]=x"),
        ("data.augment=()", "data.augment", []),
        ("data.augment=[]", "data.augment", []),
        ("data.augment=none", "data.augment", []),
        ("data.augment=[{'name': 'c:d', 'x': 1}]", "data.augment", [{"name": "c:d", "x": 1}]),
        ("data.preprocess.name=a:b", "data.preprocess.name", "a:b"),
        ("task.widths=[5]", "task.widths", (5,)),
        ("task.nothing=text", "task.nothing", "text"),
        ("task.new=0.5", "task.new", 0.5),
        ("task.new=text", "task.new", "text"),
        ("optimizer.b1=0.5", "optimizer.b1", 0.5),
        ("optimizer.weight_decay=1", "optimizer.weight_decay", 1.0),
        ("optimizer.clip_norm=2e1", "optimizer.clip_norm", 20.0),
        ("optimizer.learning_rate=1e-4", "optimizer.learning_rate", 1e-4),
        ("optimizer.learning_rate.init_value=2", "optimizer.learning_rate.init_value", 2.0),
    ],
)
def test_a_flag_sets_a_value_of_its_type(given, flag, key, value):
    found = given(flag)
    for part in key.split("."):
        found = found[part]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("seed=1.5", r"--config\.seed=1\.5: it must be an integer"),
        ("seed=True", r"it must be an integer"),
        ("data.damaged=much", r"it must be a number"),
        ("data.damaged=None", r"it must be a number"),
        ("data.resident=perhaps", r"data\.resident=perhaps: it must be true or false"),
        ("data.augment=3", r"a list, or \(\) for none"),
        ("task.widths=8", r"a list, or \(\) for none"),
        ("task.widths.0=8", r"config\.task\.widths is a list; give all of it"),
        ("data.augment.0.x=8", r"--config\.data\.augment=\"\[\{'name': 'a:b'\}\]\", or \(\)"),
        ("data=3", r"given by its keys, as --config\.data\.augment"),
        ("model=3", r"a mapping, or \{\} for none"),
        ("optimizer.learning_rate=high", r"--config\.optimizer\.learning_rate\.name=package"),
        ("optimizer.b3=1", r"optax:adamw takes no such argument \(it takes learning_rate, b1,"),
        ("optimizer.learning_rate.x=1", r"\(it takes init_value, decay_steps, floor\)"),
        ("optimizer.b1.name.x=1", r"optax:adamw takes no such argument"),
        ("optimizer.weight_decay.x=1", r"optax:adamw takes no such argument"),
        ("train.step=1", r"unknown key 'train\.step'; did you mean 'train\.steps'"),
        ("train.steps.name=a:b", r"unknown key 'train\.steps\.name'"),
        ("data.kwargs.size=1", r"unknown key 'data\.kwargs\.size'"),
        ("data.preprocess.size=1", r"unknown key 'data\.preprocess\.size'"),
    ],
)
def test_what_cannot_be_set_is_one_sentence(given, flag, message):
    with pytest.raises(UserError, match=message):
        given(flag)


def test_another_object_leaves_the_arguments_of_the_old_one_out(given, caplog):
    config = given("task.loss.gamma=3", f"task.loss.name={HERE}:focal")
    assert config.task.loss.to_dict() == {"name": f"{HERE}:focal", "gamma": 3}
    assert "left out: config.task.loss.init_value, config.task.loss.terms" in caplog.text
    config = given("optimizer.name=optax:sgd", "optimizer.momentum=0.9")
    rate = config.optimizer.learning_rate.to_dict()
    assert rate["decay_steps"] == 100
    assert config.optimizer.to_dict() == {
        "name": "optax:sgd",
        "momentum": 0.9,
        "ema": 0.9,
        "clip_norm": 1.0,
        "learning_rate": rate,
    }
    assert "replaces optax:adamw; left out: config.optimizer.weight_decay" in caplog.text


def test_the_same_name_leaves_nothing_out(given, caplog):
    assert given("optimizer.name=optax:adamw").optimizer.weight_decay == 0.1
    assert caplog.text == ""


def test_a_data_set_takes_no_arguments_of_another(config, given, caplog):
    with config.unlocked():
        config.data.update(name=f"{HERE}:focal", kwargs={"gamma": 1.0})
    assert given("data.kwargs.gamma=2").data.kwargs.gamma == 2.0
    assert given("data.name=digits").data.kwargs.to_dict() == {}
    assert "left out: config.data.kwargs.gamma" in caplog.text


def test_a_number_gives_way_to_an_object_and_an_object_to_a_number(given, caplog):
    name = "optax:piecewise_constant_schedule"
    config = given(
        "optimizer.learning_rate.boundaries_and_scales={100: 0.1}",
        f"optimizer.learning_rate.name={name}",
        "optimizer.learning_rate.init_value=1e-3",
    )
    rate = {"name": name, "init_value": 1e-3, "boundaries_and_scales": {"100": 0.1}}
    assert config.optimizer.learning_rate.to_dict() == rate
    config = given("optimizer.learning_rate.name=a:b", "optimizer={'name': 'optax:sgd'}")
    assert config.optimizer.to_dict() == {"name": "optax:sgd", "learning_rate": {"name": "a:b"}}
    config = given("optimizer.weight_decay.name=optax:constant_schedule")
    assert config.optimizer.weight_decay.to_dict() == {"name": "optax:constant_schedule"}
    caplog.clear()
    given("optimizer.learning_rate=0.5")
    assert f"config.optimizer.learning_rate=0.5 replaces {HERE}:schedule" in caplog.text


def test_what_follows_a_flag_is_said(given, caplog):
    rate = given("train.steps=20", "seed=3").optimizer.learning_rate
    assert (rate.decay_steps, rate.floor) == (20, 10)
    assert caplog.messages == [
        "config.train.steps is followed by config.optimizer.learning_rate.decay_steps (100 -> 20), "
        "config.optimizer.learning_rate.floor (50 -> 10)"
    ]


@pytest.mark.parametrize("turn", [1, -1])
def test_of_two_linked_keys_each_takes_its_own_flag(given, caplog, turn):
    flags = ["train.steps=20", "optimizer.learning_rate.decay_steps=60"]
    config = given(*flags[::turn])
    rate = config.optimizer.learning_rate
    assert (config.train.steps, rate.decay_steps, rate.floor) == (20, 60, 10)
    assert "decay_steps=60 no longer follows config.train.steps" in caplog.text


def test_a_follower_alone_leaves_the_steps_as_they_are(given):
    config = given("optimizer.learning_rate.decay_steps=60", "optimizer.learning_rate.floor=4")
    rate = config.optimizer.learning_rate
    assert (config.train.steps, rate.decay_steps, rate.floor) == (100, 60, 4)


def test_mappings_come_whole(given):
    config = given("data.preprocess={'name': 'a:b', 'by': {3: 1}}", "model=none")
    assert config.data.preprocess.to_dict() == {"name": "a:b", "by": {"3": 1}}
    assert config.model.to_dict() == {}
