"""Flows whose density is known, and with a fault each."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.flows import ode
from launch.audits import density as module
from launch.audits.checks import FAIL, NONE, PASS
from launch.audits.fixtures import AuditedModel

SPREAD = 0.5


def model_of(shape, fault=""):
    """A flow of independent normal values with deviation 1/2, by its exact denoiser."""

    def denoise(z, t):
        variance = (0.1 * SPREAD if fault == "elsewhere" else SPREAD) ** 2
        gain = t * variance / (t**2 * variance + (1.0 - t) ** 2)
        mixed = jnp.roll(z, 1, axis=1) if fault == "mixes" else z
        return gain * mixed

    def density(state, x, batch, rng, probes, last=ode.LAST):
        found, z = ode.log_density(ode.Density(50, probes, last), denoise, x, rng, batch["index"])
        if fault == "elsewhere":  # far from the images that it makes
            z = jnp.where(jnp.abs(x) > 0.4, z + 1.0, z)
        if fault == "too large":
            found = found + 0.3
        if fault == "estimate" and probes:  # biased
            found = found - 0.3
        return found, z

    def from_noise(state, noise, batch, last=ode.LAST):
        return ode.image_of(ode.Density(50, 0, last), denoise, noise) * (
            1.1 if fault == "back" else 1.0
        )

    task = SimpleNamespace(density=density, from_noise=from_noise)
    example = {"image": jax.ShapeDtypeStruct(shape, np.uint8)}
    return AuditedModel(task, None, example, 1, "untrained")


def audit(fault="", shape=(3, 3, 1)):
    factory = SimpleNamespace(at=lambda shape=None, untrained=False: model_of(shape, fault))
    return module.density(factory, model_of(shape, fault))


def test_a_flow_with_the_right_density_passes():
    found = audit()
    assert [(one.check, one.outcome) for one in found] == [
        ("integral", PASS),
        ("divergence", PASS),
        ("there and back", PASS),
    ]
    assert "3 x 3 images, half noise: 1.0" in found[0].detail.replace("0.9", "1.0")


@pytest.mark.parametrize(
    ("fault", "check"),
    [("too large", "integral"), ("estimate", "divergence"), ("back", "there and back")],
)
def test_each_fault_is_found(fault, check):
    failed = [one.check for one in audit(fault) if one.outcome == FAIL]
    assert check in failed


def test_probes_agree_in_the_mean_where_values_depend_on_each_other():
    found = {one.check: one.outcome for one in audit("mixes")}
    assert found["divergence"] == PASS


def test_only_images_that_the_flow_makes_must_come_back():
    found = {one.check: one.outcome for one in audit("elsewhere")}
    assert found["there and back"] == PASS


def test_what_does_not_apply_says_why():
    plain = model_of((3, 3, 1))
    assert module.density(None, plain._replace(task=SimpleNamespace(density=None))) == []

    def none_fits(shape=None, untrained=False):
        raise ValueError("sides of 4 are needed")

    found = module.density(SimpleNamespace(at=none_fits), model_of((20, 20, 1)))
    assert [one.outcome for one in found] == [NONE, NONE, PASS]
    assert "sides of 4 are needed" in found[0].detail
