import re
from types import SimpleNamespace

import numpy as np
import optax
import pytest
from ml_collections import ConfigDict
from scipy.integrate import quad

from launch.config.errors import UserError
from launch.engine import optimizer
from launch.engine.power_ema import gamma_of
from launch.inference import power_averages as module


def profile(step, gamma):
    return lambda tau: (gamma + 1) * tau**gamma / step ** (gamma + 1) if tau <= step else 0.0


def test_overlaps_are_integrals():
    one, other = (40, 6.9), (70, 16.9)
    found = quad(lambda tau: profile(*one)(tau) * profile(*other)(tau), 0, 70, points=[40])[0]
    assert module.overlap(one, other) == pytest.approx(found, rel=1e-6)
    assert module.overlap(other, one) == pytest.approx(found, rel=1e-6)


def test_an_average_of_another_width_is_mixed_from_those_kept():
    """Parameters on a curved path, averaged by the optimiser and, afterwards, by the mixture."""
    widths, steps = (0.05, 0.1), 240
    spec = {"name": "optax:sgd", "learning_rate": 1.0, "ema": 0.9}
    kept, made = {}, {}
    for name, these in (("kept", widths), ("wanted", (0.08, 0.15))):
        section = ConfigDict(spec | {"power_ema": these})
        made[name] = optimizer.build(section)[0]["optimizer"]
    params = {"w": np.zeros(2, np.float32)}
    states = {name: one.init(params) for name, one in made.items()}
    for step in range(1, steps + 1):
        target = np.array([np.sin(step / 60), (step / steps) ** 2], np.float32)
        gradient = {"w": params["w"] - target}
        for name, one in made.items():
            updates, states[name] = one.update(gradient, states[name], params)
        params = optax.apply_updates(params, updates)
        if step % 30 == 0:
            kept[step] = optax.tree.get(states["kept"], "power_ema")
    wanted = optax.tree.get(states["wanted"], "power_ema")
    names = [(step, gamma_of(width)) for step in kept for width in widths]
    averages = np.stack([one["w"] for step in kept for one in kept[step]])
    for width, exact in zip((0.08, 0.15), wanted, strict=True):
        weights, error = module.mixture(names, (steps, gamma_of(width)))
        assert weights.sum() == pytest.approx(1.0, abs=1e-6)
        assert error < 0.1
        np.testing.assert_allclose(weights @ averages, exact["w"], atol=0.01)
        assert np.abs(exact["w"] - averages[-1]).max() > 0.02


def test_what_few_averages_cannot_give_is_far_off():
    kept = [(step, gamma_of(width)) for step in (4000, 6000) for width in (0.05, 0.1)]
    errors = [module.mixture(kept, (6000, gamma_of(width)))[1] for width in (0.02, 0.08, 0.25)]
    assert errors[1] < 0.1
    assert min(errors[0], errors[2]) > module.MOST_ERROR
    exact, error = module.mixture(kept, kept[2])
    np.testing.assert_allclose(exact, [0, 0, 1, 0], atol=1e-6)
    assert error < 1e-6


def test_what_a_run_cannot_mix_is_refused(tmp_path):
    def run(**optimizer):
        return SimpleNamespace(config=SimpleNamespace(optimizer=ConfigDict(optimizer)))

    with pytest.raises(UserError, match="keeps no power-function averages"):
        module.mixed(run(), tmp_path, "power:0.1")
    for name in ("power:", "power:x", "power:0.5", "power:0"):
        with pytest.raises(UserError, match=re.escape(f"--ema={name}: give a width above 0")):
            module.mixed(run(power_ema=(0.05, 0.1)), tmp_path, name)
