import importlib
import inspect

import pytest

import jaxgen


@pytest.mark.parametrize("name", ["nets", "losses", "likelihoods", "augmentations"])
def test_public_names_come_from_the_modules_that_define_them(name):
    package = importlib.import_module(f"jaxgen.{name}")
    for public in package.__all__:
        found = getattr(package, public)
        assert found.__name__ == public
        assert inspect.getmodule(found).__name__.startswith(f"jaxgen.{name}.")
        assert found.__doc__


def test_a_name_that_does_not_exist_is_an_attribute_error():
    get = jaxgen.lazy("jaxgen.losses", {"hinge": "adversarial"})
    assert get("hinge") is importlib.import_module("jaxgen.losses.adversarial").hinge
    with pytest.raises(AttributeError, match=r"'jaxgen.losses' has no attribute 'hinges'"):
        get("hinges")
