import contextlib
import errno
import io
import os
import subprocess
import sys

import pytest

from launch.config.errors import UserError
from launch.reporting import outputs


def pipe_without_reader():
    reader, writer = os.pipe()
    os.close(reader)
    return open(writer, "w", encoding="ascii")


def file_on_a_full_disk():
    return open("/dev/full", "w", encoding="ascii")


@pytest.mark.parametrize(
    ("make", "number"), [(pipe_without_reader, errno.EPIPE), (file_on_a_full_disk, errno.ENOSPC)]
)
def test_what_cannot_be_written_is_dropped(make, number):
    with make() as stream:  # whose own end flushes what is left
        output = outputs.Output(stream)
        assert output.error is None
        assert output.write("one\n") == 4
        assert output.error is None  # Python's buffer has it
        output.flush()
        assert output.error.errno == number
        os.write(stream.fileno(), b"as libraries in C do")
        print("two", file=output, flush=True)
        assert output.error.errno == number


def test_a_stream_that_python_closed_is_none():
    stream = io.StringIO()
    output = outputs.Output(stream)
    stream.close()
    output.write("text")
    output.flush()
    assert isinstance(output.error, ValueError)


def test_a_reader_that_is_late_gets_what_comes_then():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with open(writer, "w", encoding="ascii") as stream:
        output = outputs.Output(stream)
        while output.error is None:  # until the pipe is full
            output.write("x" * 5000)
        assert isinstance(output.error, BlockingIOError)
        while len(os.read(reader, 2**20)) == 2**20:
            pass
        output.write("y")
        output.flush()
        assert os.read(reader, 2**20).endswith(b"y")
    os.close(reader)


def test_text_that_the_encoding_lacks_is_escaped():
    raw = io.BytesIO()
    output = outputs.Output(io.TextIOWrapper(raw, encoding="ascii"))
    output.write("Bäume \udcff …")
    output.flush()
    assert raw.getvalue() == b"B\\xe4ume \\udcff \\u2026"
    assert output.encoding == "ascii"  # all other attributes are the stream's


def protect(monkeypatch, stdout, stderr):
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setattr(sys, "stderr", stderr)
    return outputs.protected()


def test_the_streams_are_replaced_while_the_block_runs(monkeypatch):
    stdout, stderr = io.StringIO(), io.StringIO()
    with protect(monkeypatch, stdout, stderr):
        print("result")
        print("message", file=sys.stderr)
        outputs.check_results()
        assert isinstance(sys.stdout, outputs.Output)
        assert isinstance(sys.stderr, outputs.Output)
    assert (sys.stdout, sys.stderr) == (stdout, stderr)
    assert (stdout.getvalue(), stderr.getvalue()) == ("result\n", "message\n")


def test_both_are_flushed_when_the_block_ends(monkeypatch):
    raw = io.BytesIO(), io.BytesIO()
    streams = [io.TextIOWrapper(stream, encoding="ascii") for stream in raw]
    with contextlib.suppress(KeyError), protect(monkeypatch, *streams):
        print("result")
        sys.stderr.write("message")
        raise KeyError
    assert [stream.getvalue() for stream in raw] == [b"result\n", b"message"]


def test_results_that_are_lost_are_an_error_but_not_those_that_nobody_wants(monkeypatch):
    with file_on_a_full_disk() as full, protect(monkeypatch, full, io.StringIO()):
        print("result")
        with pytest.raises(UserError, match=r"results to stdout: No space left on device"):
            outputs.check_results()
    with pipe_without_reader() as pipe, protect(monkeypatch, pipe, io.StringIO()):
        print("result")
        outputs.check_results()
        assert sys.stdout.error.errno == errno.EPIPE


def test_files_never_get_the_numbers_of_closed_streams(tmp_path):
    """A file that had number 2 would take every message of every library."""
    code = (
        "import os, sys; from launch.reporting import outputs\n"
        "with outputs.protected():\n"
        "  print('result', flush=True); print('message', file=sys.stderr, flush=True)\n"
        "  sys.exit(os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY))"
    )
    close = 'exec "$0" "$@" <&- >&- 2>&-'
    command = ["sh", "-c", close, sys.executable, "-c", code, str(tmp_path / "file")]
    assert subprocess.run(command).returncode > 2
    assert (tmp_path / "file").read_bytes() == b""
