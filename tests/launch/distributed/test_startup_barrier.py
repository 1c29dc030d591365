"""Processes that meet before JAX connects them: threads on real sockets."""

import socket
import threading

import pytest

from launch import local
from launch.config.errors import PeerLost, UserError
from launch.distributed import startup_barrier


def arrive(places, processes, seconds=15.0, counts=None):
    """What became of each process: None, or the exception."""
    port, found = local._free_port(), [None] * len(places)

    def run(slot, process):
        count = counts[slot] if counts else processes
        try:
            startup_barrier.wait_for_all(f"127.0.0.1:{port}", count, process, seconds)
        except Exception as error:
            found[slot] = error

    threads = [threading.Thread(target=run, args=item) for item in enumerate(places)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_all_go_on_once_all_have_come_in_any_order():
    assert arrive([3, 1, 0, 2], 4) == [None] * 4
    assert arrive([0], 1) == [None]


def test_those_who_are_missing_are_named_to_all():
    for error in arrive([0, 2], 4, seconds=1.0):
        assert isinstance(error, PeerLost)
        assert "did not come: process 1 of 4, process 3 of 4" in str(error)


def test_a_missing_first_process_is_named():
    (error,) = arrive([1], 2, seconds=1.0)
    assert isinstance(error, PeerLost)
    assert "process 0 of 2 did not answer at 127.0.0.1" in str(error)


def test_two_of_one_number_and_counts_that_differ_are_refused():
    found = arrive([0, 1, 1], 3, seconds=5.0)
    assert any(isinstance(e, UserError) and "two processes" in str(e) for e in found)
    found = arrive([0, 1], 2, seconds=5.0, counts=[2, 3])
    assert all("--processes=2 at process 0, 3 at process 1" in str(error) for error in found)


def test_a_port_in_use_and_no_address_are_mistakes():
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} cannot be used"):
            startup_barrier.wait_for_all(f"localhost:{port}", 2, 0, 1.0)
    with pytest.raises(UserError, match="expected HOST:PORT"):
        startup_barrier.wait_for_all("localhost", 2, 0, 1.0)
