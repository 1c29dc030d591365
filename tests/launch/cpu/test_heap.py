"""Freed memory stays with the process until it is asked for, or keeping is stopped."""

import os
import subprocess
import sys

import pytest

from launch.cpu import heap

# Takes and frees a block above glibc's threshold, and looks at the memory that is still held.
SCRIPT = """
import ctypes, re, sys
from launch.cpu import heap
kept = heap.keep_freed_memory() if "keep" in sys.argv else None
if "stop" in sys.argv:
    heap.stop_keeping()
held = lambda: int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024
block = ctypes.create_string_buffer(100 * 2**20)
ctypes.memset(block, 1, len(block))
del block
before = held()
heap.give_back()
print(kept, before, held())
"""


@pytest.mark.skipif(sys.platform != "linux" or (os.cpu_count() or 1) > 4, reason="does nothing")
def test_freed_memory_is_kept_until_it_is_given_back():
    run = lambda *words: subprocess.run(
        [sys.executable, "-c", SCRIPT, *words], capture_output=True, text=True, check=True
    ).stdout.split()
    kept, before, after = run("keep")
    assert kept == "True"
    assert int(before) - int(after) > 90
    for words in ((), ("keep", "stop")):
        _, before, after = run(*words)
        assert int(before) - int(after) < 10


@pytest.mark.parametrize(("name", "value"), [("platform", "darwin"), ("cores", 16)])
def test_other_systems_and_many_cores_are_left_alone(monkeypatch, name, value):
    if name == "platform":
        monkeypatch.setattr(sys, "platform", value)
    monkeypatch.setattr(os, "cpu_count", lambda: 16 if name == "cores" else 2)
    assert not heap.keep_freed_memory()
