"""The bytes that a training takes: of the process on CPUs, else of a step."""

import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from launch.engine import memory
from launch.planning import footprint

GIB = 2**30


def program(temp, output, alias, argument):
    """What XLA says of a compiled program's memory."""
    analysis = SimpleNamespace(
        temp_size_in_bytes=temp,
        output_size_in_bytes=output,
        alias_size_in_bytes=alias,
        argument_size_in_bytes=argument,
    )
    return SimpleNamespace(memory_analysis=lambda: analysis)


def test_a_training_takes_its_arguments_and_temporaries(monkeypatch):
    monkeypatch.setattr(footprint.jax, "default_backend", lambda: "gpu")
    step = program(temp=3 * GIB, output=2 * GIB, alias=GIB, argument=5 * GIB)
    assert footprint.least(step, 2) == memory.peak(step) == 9 * GIB


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell")
def test_on_cpus_it_takes_the_process_and_temporaries_of_each_dispatch():
    step = program(temp=3 * GIB, output=2 * GIB, alias=GIB, argument=5 * GIB)
    here = [footprint.least(step, dispatches) - 4 * GIB * dispatches for dispatches in (1, 2)]
    assert all(50 * 2**20 < size < 50 * GIB for size in here)


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="not allowed")
def test_the_peak_of_the_process_can_be_forgotten():
    block = np.ones(300 * 2**20, np.uint8)
    footprint.forget_peak()
    before = footprint.process_peak()
    del block
    footprint.heap.give_back()
    assert footprint.process_peak() > before - 10 * 2**20
    footprint.forget_peak()
    assert footprint.process_peak() < before - 250 * 2**20
