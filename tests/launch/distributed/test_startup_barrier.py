"""The barrier before JAX connects the processes, by threads on real sockets."""

import contextlib
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from launch import local
from launch.config.errors import PeerLost, UserError
from launch.distributed import startup_barrier


def arrive(places, processes, seconds=15.0, counts=None):
    """Calls wait_for_all in a thread per process; returns None or the exception of each."""
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


def test_all_return_once_all_have_come_in_any_order():
    assert arrive([3, 1, 0, 2], 4) == [None] * 4
    assert arrive([0], 1) == [None]


def test_missing_processes_are_named_to_all(capsys):
    for error in arrive([0, 2], 4, seconds=0.6):
        assert isinstance(error, PeerLost)
        assert "did not come: process 1 of 4, process 3 of 4" in str(error)
    assert capsys.readouterr().err == ""  # who is waited for is told after 20 s
    assert startup_barrier.NOTICE_AFTER == 20.0


def test_a_missing_first_process_is_named():
    (error,) = arrive([1], 2, seconds=0.6)
    assert isinstance(error, PeerLost)
    assert "process 0 of 2 did not answer at 127.0.0.1" in str(error)


def test_equal_numbers_and_different_counts_are_refused():
    found = arrive([0, 1, 1], 3, seconds=5.0)
    assert any(isinstance(e, UserError) and "two processes" in str(e) for e in found)
    found = arrive([0, 1], 2, seconds=5.0, counts=[2, 3])
    assert all("--processes=2 at process 0, 3 at process 1" in str(error) for error in found)


def test_a_port_in_use_and_no_address_are_refused():
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} cannot be used"):
            startup_barrier.wait_for_all(f"localhost:{port}", 2, 0, 1.0)
    with pytest.raises(UserError, match="expected HOST:PORT"):
        startup_barrier.wait_for_all("localhost", 2, 0, 1.0)


def test_process_zero_names_the_processes_it_waits_for(monkeypatch, capsys):
    monkeypatch.setattr(startup_barrier, "NOTICE_AFTER", 0.1)
    arrive([0, 2], 3, seconds=0.6)
    assert capsys.readouterr().err.splitlines() == ["waiting for process 1 of 3"]


def test_other_programs_that_connect_are_ignored():
    port = local._free_port()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(startup_barrier.wait_for_all, f"127.0.0.1:{port}", 2, 0, 15.0)
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                stranger = socket.create_connection(("127.0.0.1", port))
                break
        with stranger:
            stranger.sendall(b"GET / HTTP/1.1\n")
        second = pool.submit(startup_barrier.wait_for_all, f"[127.0.0.1]:{port}", 2, 1, 15.0)
        assert (first.result(), second.result()) == (None, None)
