import jax
import jax.numpy as jnp
import numpy as np
import pytest

from launch.checkpoints import restoring
from launch.config.errors import UserError
from tests.launch.checkpoints.states import state_of, template


def test_a_saved_state_comes_back(saved):
    found = restoring.restore(saved, 10, template())
    assert jax.tree.structure(found) == jax.tree.structure(state_of(0))
    for got, expected in zip(jax.tree.leaves(found), jax.tree.leaves(state_of(10)), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_parameters_alone_can_be_restored(saved):
    found, others = restoring.restore_fitting(saved, 30, {"params": template().params})
    assert others == []
    np.testing.assert_array_equal(
        found["params"]["net"]["kernel"], state_of(30).params["net"]["kernel"]
    )


def test_another_model_is_refused_by_leaf(saved):
    other = template()
    wider = jax.ShapeDtypeStruct((30, 5), jnp.float32)
    grown = other._replace(params={"net": other.params["net"] | {"kernel": wider}})
    with pytest.raises(UserError, match=r"params/net/kernel is \[30, 4\].*has \[30, 5\]"):
        restoring.restore(saved, 10, grown)
    with pytest.raises(UserError, match=r"has opt_state/0, which .* does not have"):
        restoring.restore(saved, 10, other._replace(opt_state=()))


def test_another_form_without_arrays_is_refused(saved):
    other = template()
    grown = other._replace(params=other.params | {"more": ()})
    with pytest.raises(UserError, match="another form than this config makes, at params"):
        restoring.restore(saved, 10, grown)


def test_parameters_that_do_not_fit_are_left_out_and_said(saved):
    net, wider = template().params["net"], jax.ShapeDtypeStruct((30, 5), jnp.float32)
    fitting = lambda net: restoring.restore_fitting(saved, 10, {"params": {"net": net}})
    found, others = fitting(net | {"scale": wider})
    assert others == ["params/net/scale is not there"]
    assert found["params"]["net"]["scale"] is None
    np.testing.assert_array_equal(
        found["params"]["net"]["kernel"], state_of(10).params["net"]["kernel"]
    )
    rest = {key: leaf for key, leaf in net.items() if key != "kernel"}
    _, others = fitting(rest | {"other": wider})
    assert others == ["params/net/other is not there", "params/net/kernel of that run is not used"]
    with pytest.raises(UserError, match=r"no parameters that fit: params/net/kernel is \[30, 4\]"):
        fitting({"kernel": wider})
    found, others = fitting(net | {"kernel": wider})
    assert others == ["params/net/kernel is [30, 4] there and [30, 5] here"]
    assert found["params"]["net"]["kernel"] is None


def test_chosen_parts_alone_are_taken(saved):
    fitting = lambda part: restoring.restore_fitting(saved, 10, {"params": template().params}, part)
    found, others = fitting("net/ker")
    assert others == []  # what was not asked for is no news
    kernel = state_of(10).params["net"]["kernel"]
    np.testing.assert_array_equal(found["params"]["net"]["kernel"], kernel)
    rest = {key: leaf for key, leaf in found["params"]["net"].items() if key != "kernel"}
    assert rest
    assert set(rest.values()) == {None}
    with pytest.raises(UserError, match=r"init_part=head/: no .* they start with net/"):
        fitting("head/")
