import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import norm

from jaxgen import flows
from jaxgen.flows.model import condition_of, denoise, observe
from tests.jaxgen.flows.small import KEY, far_from_zero, make_batch, make_task, model_of


def test_a_dropped_class_is_that_of_no_label_and_a_wrong_label_is_never_silent():
    model, batch = model_of(make_task(classes=2)), make_batch(4)
    drop = np.array([True, False, True, False])
    batch["label"] = np.array([0, 1, 5, -1])
    found = np.asarray(condition_of(model, batch, drop))
    np.testing.assert_array_equal(found[:2], [[0, 0, 1], [0, 1, 0]])
    assert np.isnan(found[2:]).any(1).all()


def test_the_net_sees_no_time_before_the_first_thousandth_of_those_of_training():
    task, z = make_task(), np.random.default_rng(0).normal(size=(1, 4, 4, 1)).astype(np.float32)
    model, params = model_of(task), far_from_zero(task, make_batch()).params
    first = expit(-0.8 + 0.8 * norm.ppf(1e-3))
    at = lambda t: np.asarray(denoise(model, params, z, np.float32(t), None))
    np.testing.assert_allclose(at(0.0), at(first), rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(at(0.0), at(0.5 * first))
    assert np.abs(at(first) - at(2 * first)).max() > 1e-3


def test_two_levels_are_drawn_from_the_grey_level():
    task, batch = make_task(levels=2, parametrisation=flows.binary()), make_batch(4000)
    batch["image"][:] = 64
    x = np.asarray(observe(model_of(task), batch, KEY))
    assert set(np.unique(x)) == {-1.0, 1.0}
    assert (x == 1).mean() == pytest.approx(64 / 255, abs=0.01)
