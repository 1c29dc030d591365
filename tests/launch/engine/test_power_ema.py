import numpy as np
import optax
import pytest
from scipy.integrate import quad

from launch.engine.power_ema import PowerState, averages, gamma_of


def profile(gamma):
    return lambda tau: (gamma + 1) * tau**gamma


@pytest.mark.parametrize("width", [0.05, 0.1, 0.25])
def test_a_width_is_the_deviation_of_its_profile(width):
    density = profile(gamma_of(width))
    mean, square = (quad(lambda tau, n=n: tau**n * density(tau), 0, 1)[0] for n in (1, 2))
    assert np.sqrt(square - mean**2) == pytest.approx(width, rel=1e-4)


def test_a_share_is_exact_after_millions_of_steps():
    gamma, count = gamma_of(0.05), np.float32(3e6)
    state = PowerState(count, ({"w": np.float32(0)},))
    average = averages([gamma])
    _, state = average.update({"w": np.float32(1)}, state, {"w": np.float32(0)})
    exact = -np.expm1(-(gamma + 1) * np.log1p(1 / 3e6))
    assert state.power_ema[0]["w"] == pytest.approx(exact, rel=1e-4)


def test_an_average_is_the_weighted_sum_by_hand():
    gamma, average, params = gamma_of(0.1), averages([gamma_of(0.1)]), {"w": np.float32(1)}
    state, expected = average.init(params), 0.0
    for step in range(1, 9):
        updates = {"w": np.float32(step**2)}
        _, state = average.update(updates, state, params)
        params = optax.apply_updates(params, updates)
        decay = (1 - 1 / step) ** (gamma + 1)
        expected = decay * expected + (1 - decay) * float(params["w"])
    assert state.power_ema[0]["w"] == pytest.approx(expected, rel=1e-5)
