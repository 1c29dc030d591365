import re

import pytest

from jaxseg.nets.encoders.batch_norm import batch_norm, batch_norm_rules


@pytest.mark.parametrize(
    ("train", "frozen", "running"), [(0, 0, True), (1, 0, False), (1, 1, True), (0, 1, True)]
)
def test_running_statistics_are_used_outside_training_and_when_frozen(train, frozen, running):
    norm = batch_norm(bool(train), bool(frozen), 1e-3, None, "norm")
    assert (norm.use_running_average, norm.epsilon, norm.momentum) == (running, 1e-3, 0.9)


def test_the_four_tensors_have_places():
    found = {}
    for key in ("weight", "bias", "running_mean", "running_var"):
        for rule in batch_norm_rules(r"bn(\d)", r"norm\1"):
            if match := re.fullmatch(rule.pattern, f"bn2.{key}"):
                found[key] = match.expand(rule.path)
    assert found == {
        "weight": "params/norm2/scale",
        "bias": "params/norm2/bias",
        "running_mean": "batch_stats/norm2/mean",
        "running_var": "batch_stats/norm2/var",
    }
