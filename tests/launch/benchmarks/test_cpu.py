"""The cost rule of CPU convolutions, measured."""

import pytest

from launch.benchmarks import cpu
from launch.config.errors import UserError


def row(flop, ours, own):
    return {"flop": flop} | {use: [ours, own] for use in cpu.USES}


def test_the_least_flop_is_where_the_rules_begin_to_win():
    rows = [row(1e5, 2.0, 1.0), row(1e6, 1.0, 2.0), row(1e7, 1.0, 3.0)]
    assert cpu.least_flop(rows) == 1e6
    assert cpu.least_flop([*rows, row(1e8, 3.0, 1.0)]) == float("inf")


def test_a_layer_is_timed_both_ways(monkeypatch):
    monkeypatch.delenv("SEGEN_CPU_RULES", raising=False)
    try:
        found = cpu.compare((1, 4, 2, 2), 0.003)
    finally:
        cpu.lowerings.remove()
    assert found["flop"] == 18 * 16 * 4
    assert all(time > 0 for use in cpu.USES for time in found[use])


def test_no_time_is_refused():
    with pytest.raises(UserError, match=r"--seconds=0.0: must be above 0"):
        cpu.main(["--seconds=0"])
