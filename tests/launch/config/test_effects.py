"""Keys without effect are refused where they are given, and shipped configs are not."""

import pytest

from launch.config import effects, loading, schema
from launch.config.effects import Facts
from launch.config.errors import UserError
from tests.test_configs import SPECS

STANDARD = schema.flatten(schema.defaults().to_dict())
FUNCTION = {"data.name": "mine:images"}


@pytest.mark.parametrize("spec", SPECS)
def test_a_shipped_config_has_no_key_without_effect(spec):
    loading.override(loading.load(spec), [])


@pytest.mark.parametrize(
    ("values", "needed"),
    [
        ({"data.path": "x"}, FUNCTION),
        ({"data.fold": "2/5"}, FUNCTION),
        ({"data.data_dir": "x"} | FUNCTION, {"data.name": "mnist:3.0.1"}),
        ({"data.kwargs.size": 3}, FUNCTION),
        ({"data.resident_mib": 5}, {"data.resident": True}),
        ({"data.threads": 8}, {"data.workers": 0}),
        ({"collapse.after": 5}, {"collapse.rule": "fid < 3"}),
        ({"collapse.times": 5}, {"collapse.rule": "fid < 3", "collapse.action": "rollback"}),
        ({"collapse.action": "rollback"}, {"collapse.rule": "fid < 3"}),
        ({"nonfinite.times": 5}, {"nonfinite.action": "skip"}),
    ],
)
def test_a_key_acts_only_beside_another(values, needed):
    key = next(iter(values))
    with pytest.raises(UserError, match=rf"config\.{key}={values[key]!r} has no effect: "):
        effects.check(STANDARD | values, STANDARD)
    effects.check(STANDARD | values | needed, STANDARD)
    effects.check(STANDARD | values, STANDARD | values)  # of a run that is trained


def test_times_mean_nothing_where_a_run_stops():
    values = STANDARD | {"collapse.rule": "fid < 3", "collapse.times": 5}
    with pytest.raises(UserError, match=r"config\.collapse\.action is stop, at the first time"):
        effects.check(values, STANDARD)


@pytest.mark.parametrize(
    ("key", "value", "idle", "acting"),
    [
        ("data.workers", 2, Facts(streams=False), Facts(streams=True)),
        ("data.cache_mib", 5, Facts(decodes=False), Facts(decodes=True)),
        ("data.damaged", 0.1, Facts(decodes=False), Facts(decodes=True)),
        ("predict.overlap", 0.7, Facts(predicts=False), Facts(predicts=True)),
        ("predict.refine", [{"name": "a:b"}], Facts(predicts=False), Facts(predicts=True)),
    ],
)
def test_what_the_data_and_the_task_decide(key, value, idle, acting):
    values = STANDARD | {key: value}
    with pytest.raises(UserError, match=rf"config\.{key}=.* has no effect"):
        effects.check(values, STANDARD, facts=idle)
    effects.check(values, STANDARD, facts=acting)
    effects.check(values, STANDARD)  # not known yet
    effects.check(STANDARD | {"predict.refine": ()}, STANDARD, facts=idle)


def test_a_flag_counts_even_with_the_value_of_the_default():
    with pytest.raises(UserError, match=r"nonfinite\.times=3 has no effect"):
        effects.check(STANDARD, STANDARD, {"nonfinite.times"})
    vae = loading.load("configs/vae.py")
    with pytest.raises(UserError, match=r"nonfinite\.times=3 has no effect"):
        loading.override(vae, ["--config.nonfinite.times=3"])
    loading.override(vae, ["--config.data.path="])  # gives nothing


def test_rules_of_the_command_line_are_not_applied_twice():
    effects.check(STANDARD | {"data.path": "x"}, STANDARD, facts=Facts(predicts=True))
