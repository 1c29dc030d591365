import functools
import subprocess
import sys

import pytest

from launch.config import by_name
from launch.config.errors import UserError

HERE = "tests.launch.config.test_by_name"
run_program = subprocess.check_output  # what no name may lead to


def pair(left, right=2, **rest):
    return left, right, rest


def picky(size=1):
    if size < 0:
        raise ValueError("size must not be negative")
    return size


def test_specs_are_called_with_their_keys_and_the_callers():
    spec = {"name": f"{HERE}:pair", "left": {"name": f"{HERE}:picky", "size": 5}, "more": [1, [2]]}
    assert by_name.instantiate(spec, "here", right=7) == (5, 7, {"more": (1, (2,))})


def test_functions_are_bound_without_being_called():
    assert by_name.partial({"name": f"{HERE}:pair", "right": 3}, "here")(1) == (1, 3, {})


def test_what_an_object_accepts_and_needs():
    takes = lambda name, argument: by_name.accepts(f"{HERE}:{name}", argument, "here")
    assert takes("picky", "size")
    assert not takes("picky", "more")
    assert takes("pair", "left")
    assert takes("pair", "more")  # as it takes **rest
    assert by_name.required(f"{HERE}:pair", "here") == {"left"}
    assert by_name.required(f"{HERE}:picky", "here") == set()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, 'here: expected a mapping with a "name"'),
        ({"name": "nocolon"}, "not a name of the form"),
        ({"name": ["a:b"]}, r"here.name: \['a:b'\] is not a name of the form"),
        ({"name": 3}, "3 is not a name of the form"),
        ({"name": "no.such:thing"}, "cannot import 'no.such'"),
        ({"name": f"{HERE}:pare"}, "did you mean 'pair'"),
        (
            {"name": f"{HERE}:picky", "sise": 1},
            r"here.sise: .*no argument 'sise'; did you mean 'size'",
        ),
        ({"name": f"{HERE}:picky", "size": -1}, "picky: size must not be negative"),
        ({"name": f"{HERE}:pair"}, "needs an argument 'left'"),
    ],
)
def test_mistakes_name_the_key(spec, message):
    with pytest.raises(UserError, match=message):
        by_name.instantiate(spec, "here")


@pytest.mark.parametrize(
    "name",
    ["subprocess:check_output", "os:system", "builtins:eval", "os.path:join", "posix:system"],
)
def test_the_standard_library_is_refused(name):
    with pytest.raises(UserError, match=rf"here.name: '{name}' is of Python's standard library"):
        by_name.instantiate({"name": name, "args": ["id"]}, "here")


def test_it_is_not_even_imported():
    assert "antigravity" not in sys.modules  # which opens a browser
    with pytest.raises(UserError, match="is of Python's standard library"):
        by_name.resolve("antigravity:geohash", "here")
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("path", ["run_program", "subprocess.run", "functools.partial"])
def test_no_detour_leads_there(path):
    with pytest.raises(UserError, match="is of Python's standard library"):
        by_name.resolve(f"{HERE}:{path}", "here")


def test_objects_made_by_the_standard_library_may_be_named(monkeypatch):
    monkeypatch.setattr(f"{HERE}.bound", functools.partial(pair, 1), raising=False)
    assert by_name.instantiate({"name": f"{HERE}:bound"}, "here") == (1, 2, {})


def test_names_of_objects_are_not_versions_of_data_sets():
    assert by_name.is_name("mine:images")
    assert by_name.is_name("mine.data:Set.images")
    assert not by_name.is_name("mnist:3.0.1")
    assert not by_name.is_name("mnist")
    assert not by_name.is_name("")


def test_the_arguments_of_an_object():
    assert by_name.arguments("optax:constant_schedule", "here") == ["value"]
    assert by_name.arguments("flax.linen:Dropout", "here")[0] == "rate"
    assert "parent" not in by_name.arguments("flax.linen:Dropout", "here")


def test_a_rate_that_falls_in_steps():
    spec = {
        "name": "optax:piecewise_constant_schedule",
        "init_value": 1.0,
        "boundaries_and_scales": {"100": 0.5, "20": 0.5},
    }
    rate = by_name.instantiate(spec, "here")
    assert [float(rate(step)) for step in (0, 19, 21, 101)] == [1.0, 1.0, 0.5, 0.25]
