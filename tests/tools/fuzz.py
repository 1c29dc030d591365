"""Changes files that users give at random; each must be answered with exit 0, 2 or one message.

python -m tests.tools.fuzz --seconds=600 --seed=1

Images, masks, class lists, folders, outlines, configs, runs, weights and exported models are
changed at random and opened. A right answer is a result, or one message and an exit code of
the user's mistake; not a stack trace, a crash, more than LIMIT seconds or more than MEMORY.
`launch.check` and `launch.inspect` may also exit with 1, which means that they list errors,
and a folder that `launch.check` finds without errors must be read without errors.

A case follows from the seed and its number (and, for runs and exported models, from a run that
is trained anew, whose files have other names and times each time). A failure prints both, its
input is kept in a folder, and the exit code is 1. `--case=N` runs one case again. The last line
is JSON: counts by kind.
"""

import argparse
import collections
import contextlib
import faulthandler
import io
import json
import logging
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from launch import cli
from launch.config.errors import CommandExit
from launch.data.bad_file import BadFile

LIMIT = 10  # seconds that a case may take
MEMORY = 2 << 30  # bytes that a case may take
BATCH = 40  # cases of one process
LONGEST = 20_000  # characters of one message


class Failure(AssertionError):
    """An answer that is not right, though nothing else was raised."""


class Kind(NamedTuple):
    """Cases of one kind.

    Attributes:
      run: (chance, templates, empty folder) -> exit code; makes the input in the folder and
        opens it.
      share: how often it is drawn, in relation to others.
      codes: exit codes that are right.
    """

    run: Callable[[random.Random, Path, Path], int]
    share: int = 1
    codes: tuple[int, ...] = (0, 2)


def answer(function: Callable, *arguments) -> int:
    """Calls a function of the project as its commands do.

    Returns:
      The exit code that the command has: 0 for a result, and else that of the error.

    Raises:
      Failure: the message is empty, no text, too long, or holds a stack trace.
      BaseException: of the function, where it is no error that people are meant to see.
    """
    try:
        function(*arguments)
    except (CommandExit, BadFile) as error:
        message, code = cli.ending(error) or (str(error), 2)
        _check_message(message)
        return code
    except SystemExit as left:  # argparse has printed its message
        return left.code
    return 0


def _check_message(message):
    if not message.strip() or len(message) > LONGEST or "Traceback" in message:
        raise Failure(f"the message is empty, too long or a stack trace: {message[:500]!r}")


def run_case(kinds: dict[str, Kind], templates: Path, seed: int, number: int, folder: Path) -> dict:
    """Runs one case in this process.

    Args:
      kinds: all kinds.
      templates: the folder of what is changed.
      seed: of all cases.
      number: of the case.
      folder: a folder that does not exist, for the input.

    Returns:
      {"number", "code", "failure"}: the last is "" for a right answer, else a stack trace.
    """
    chance, name = _draw(kinds, seed, number)
    os.environ["XDG_CACHE_HOME"] = f"{folder}.cache"  # of what is read of folders
    folder.mkdir(parents=True)
    # As a terminal of UTF-8: what cannot be encoded raises an error.
    printed = io.TextIOWrapper(io.BytesIO(), "utf-8", "strict")
    said = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace")
    code, failure = -1, ""
    try:
        with warnings.catch_warnings(record=True) as warned, contextlib.redirect_stdout(printed):
            warnings.simplefilter("ignore", DeprecationWarning)
            with contextlib.redirect_stderr(said):
                code = kinds[name].run(chance, templates, folder)
                printed.flush()
        if warned:
            raise Failure(f"a warning: {warned[0].message} ({warned[0].filename})")
        if code not in kinds[name].codes:
            raise Failure(f"exit code {code}")
    except BaseException:
        failure = traceback.format_exc()
    shutil.rmtree(f"{folder}.cache", ignore_errors=True)
    if not failure:
        shutil.rmtree(folder)
    return {"number": number, "code": code, "failure": failure}


def _draw(kinds, seed, number):
    """The source of randomness and the kind of a case."""
    chance = random.Random(f"{seed}/{number}")
    (name,) = chance.choices(list(kinds), [kind.share for kind in kinds.values()])
    return chance, name


def _work(run, first, most, until, pipe, noise):
    """Of a forked process: runs cases and writes a line before and after each."""
    os.dup2(noise, 2)  # of libraries in C; also where a crash or a hang writes its stack trace
    faulthandler.enable(noise)
    logging.getLogger("segen").addHandler(logging.NullHandler())
    with os.fdopen(pipe, "w") as stream:
        for number in range(first, first + most):
            if time.monotonic() > until:
                break
            begun = {"number": number, "code": None, "failure": ""}
            print(json.dumps(begun), file=stream, flush=True)
            size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, resource.RLIM_INFINITY))
            faulthandler.dump_traceback_later(LIMIT, exit=True, file=noise)
            before, result = os.lseek(noise, 0, os.SEEK_END), run(number)
            faulthandler.cancel_dump_traceback_later()
            text = os.pread(noise, 2_000, before).decode(errors="replace")
            if not result["failure"] and re.search(r"^[A-Z]+:\w+:|Traceback", text, re.MULTILINE):
                result["failure"] = f"a library writes to stderr: {text}"
            print(json.dumps(result), file=stream, flush=True)


def batch(run: Callable[[int], dict], first: int, most: int, until: float) -> list[dict]:
    """Runs some cases in a forked process.

    Args:
      run: runs the case of a number.
      first: the number of the first case.
      most: how many cases to run.
      until: of the monotonic clock, no case begins after it.

    Returns:
      The results, see `run_case`. If the process has ended by itself, the code of the last is
      None.
    """
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as noise:
        sys.stdout.flush()
        child = os.fork()
        if not child:
            try:
                os.close(reading)
                _work(run, first, most, until, writing, noise.fileno())
                os._exit(0)
            except BaseException:
                os.write(noise.fileno(), traceback.format_exc().encode())
            finally:
                os._exit(70)
        os.close(writing)
        results = {}
        with os.fdopen(reading) as stream:
            for line in map(json.loads, stream):  # a result takes the place of its beginning
                results[line["number"]] = line
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        noise.seek(max(0, noise.seek(0, os.SEEK_END) - 6_000))
        said = noise.read().decode(errors="replace")
    results = list(results.values())
    if code and not (results and results[-1]["code"] is None):
        raise RuntimeError(f"the process of the cases ended with {code}: {said}")
    if code:
        reason = f"signal {signal.Signals(-code).name}" if code < 0 else f"{LIMIT} s are over"
        results[-1]["failure"] = f"{reason}\n{said}"
    return results


def main(argv: list[str], kinds: dict[str, Kind] | None = None) -> int:
    """Parses the command line, and runs cases until the time is over.

    Args:
      argv: the arguments.
      kinds: all kinds; None for those of the modules `fuzz_*`.

    Returns:
      The exit code.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, help="the number of the only case to run")
    parser.add_argument("--cases", type=int, default=10**9, help="how many cases at most")
    parser.add_argument("--kinds", default="", help="some kinds, separated by commas")
    parser.add_argument("--keep", type=Path, help="folder for inputs of failures")
    options = parser.parse_args(argv)
    prepare = None
    if kinds is None:
        from tests.tools import fuzz_folders, fuzz_pixels, fuzz_runs

        kinds = fuzz_pixels.KINDS | fuzz_folders.KINDS | fuzz_runs.KINDS
        prepare = fuzz_runs.prepare
    chosen = options.kinds.split(",") if options.kinds else list(kinds)
    kinds = {name: kind for name, kind in kinds.items() if name in chosen}
    keep = options.keep or Path(tempfile.mkdtemp(prefix="fuzz-"))
    with tempfile.TemporaryDirectory() as place:
        if prepare and {"runs", "exported"} & kinds.keys():  # else configs build nothing
            _in_child(prepare, Path(place))
        input_of = lambda number: keep / f"{options.seed}-{number}"
        run = lambda number: run_case(kinds, Path(place), options.seed, number, input_of(number))
        counts = {name: collections.Counter() for name in kinds}
        first, most = (0, options.cases) if options.case is None else (options.case, 1)
        for result in _results(run, first, most, options.seconds, input_of):
            number, failure = result["number"], result["failure"]
            _, name = _draw(kinds, options.seed, number)
            counts[name]["cases"] += 1
            counts[name]["failures" if failure else f"exit {result['code']}"] += 1
            if failure:
                some = f" --kinds={options.kinds}" if options.kinds else ""
                again = f"--seed={options.seed} --case={number}{some}"
                print(f"FAILED: {name}, {again}; its input is in {input_of(number)}\n{failure}")
                sys.stdout.flush()
    cases = sum(count["cases"] for count in counts.values())
    print(json.dumps({"seed": options.seed, "cases": cases, "kinds": counts}))
    return int(any(count["failures"] for count in counts.values()))


def _results(run, first, most, seconds, input_of):
    """Results of cases, until the time is over; a case that ends its process is tried twice."""
    until, end = time.monotonic() + seconds, first + most
    while first < end and time.monotonic() < until:
        results = batch(run, first, min(BATCH, end - first), until)
        if results and results[-1]["code"] is None:  # other programs may have taken the time
            number = results[-1]["number"]
            shutil.rmtree(input_of(number), ignore_errors=True)
            results[-1:] = batch(run, number, 1, until + LIMIT)
        yield from results
        first += len(results)


def _in_child(function, *arguments):
    """Calls a function in a forked process, so that this one stays without threads."""
    child = os.fork()
    if not child:
        code = 70
        try:
            function(*arguments)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    if os.waitpid(child, 0)[1]:
        raise SystemExit("what the cases change could not be made")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
