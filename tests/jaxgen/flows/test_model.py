import numpy as np
import pytest

from jaxgen import flows
from jaxgen.flows.model import condition_of, observe
from tests.jaxgen.flows.small import KEY, make_batch, make_task, model_of


def test_a_dropped_class_is_that_of_no_label_and_a_wrong_label_is_never_silent():
    model, batch = model_of(make_task(classes=2)), make_batch(4)
    drop = np.array([True, False, True, False])
    batch["label"] = np.array([0, 1, 5, -1])
    found = np.asarray(condition_of(model, batch, drop))
    np.testing.assert_array_equal(found[:2], [[0, 0, 1], [0, 1, 0]])
    assert np.isnan(found[2:]).any(1).all()


def test_two_levels_are_drawn_from_the_grey_level():
    task, batch = make_task(levels=2, parametrisation=flows.binary()), make_batch(4000)
    batch["image"][:] = 64
    x = np.asarray(observe(model_of(task), batch, KEY))
    assert set(np.unique(x)) == {-1.0, 1.0}
    assert (x == 1).mean() == pytest.approx(64 / 255, abs=0.01)
