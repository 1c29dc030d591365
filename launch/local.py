"""python -m launch.local --processes=4 --devices=2 -- --config=configs/vae.py --workdir=runs/x

Several processes of a training on this machine, on simulated CPU devices: a pod's set-up
tried at home. Where one process dies all start again, and go on from the last checkpoint.
"""

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time

from launch import cli
from launch.config.errors import ABANDONED, Collapsed, Diverged, Interrupted, UserError
from launch.distributed import child_process

logger = logging.getLogger("segen")

# Ends that another start would only repeat.
FINAL = {0, UserError.exit_code, Diverged.exit_code, Collapsed.exit_code, ABANDONED}
# What XLA's CPU collectives print of themselves.
CHATTER = ("[Gloo]", "connected peer ranks")
# A start that lasted this many seconds has got somewhere: earlier failures are forgotten.
LASTED = 60.0


def main(argv: list[str]) -> None:
    """Parses the command line and supervises."""
    arguments = cli.parser("local", "Several processes of a training on this machine.")
    add = arguments.add_argument
    add("--processes", type=int, default=2, help="how many processes (default: 2)")
    add("--devices", type=int, default=1, help="simulated CPU devices of each (default: 1)")
    add(
        "--restarts",
        type=int,
        default=3,
        help="starts after a process died (default: 3); counted anew once a start lasts a minute",
    )
    add("training", nargs="*", metavar="-- ARGUMENT", help="arguments of launch.train")
    cut = argv.index("--") if "--" in argv else len(argv)
    options = arguments.parse_args(argv[:cut])
    for name in ("processes", "devices"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name} must be at least 1, got {getattr(options, name)}")
    if not argv[cut + 1 :]:
        raise UserError("what to train goes behind --, as in: -- --config=configs/vae.py")
    sys.exit(supervise(argv[cut + 1 :], options.processes, options.devices, options.restarts))


def supervise(training: list[str], processes: int, devices: int, restarts: int) -> int:
    """Runs until the training is done or cannot go on; returns the exit code.

    Args:
      training: arguments of launch.train.
      processes, devices: how many, and simulated devices of each.
      restarts: how many starts may fail in a row.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    failures = 0
    while True:
        began = time.monotonic()
        code = attempt(training, processes, devices, stop)
        if code in FINAL or stop.is_set():
            return code
        failures = 0 if time.monotonic() - began > LASTED else failures
        if code != Interrupted.exit_code:
            failures += 1
        if failures > restarts:
            logger.info(f"given up after {failures} failures in a row")
            return code
        logger.info(f"ended with code {code}; all {processes} processes start again")


def attempt(training: list[str], processes: int, devices: int, stop: threading.Event) -> int:
    """Starts all processes once; returns the exit code of the first that did not end well.

    When one ends otherwise than by 0 or 75 the others are killed: they would wait for it,
    and a kill loses nothing but the steps since the last save.
    """
    port = _free_port()
    running = [_start(training, number, processes, devices, port) for number in range(processes)]
    readers = [threading.Thread(target=_relay, args=item) for item in enumerate(running)]
    for reader in readers:
        reader.start()
    told = False
    try:
        while None in (codes := [process.poll() for process in running]):
            if stop.is_set() and not told:
                told = True
                running[0].terminate()  # who tells the others
            if any(code not in (None, 0, Interrupted.exit_code) for code in codes):
                _kill_late(running)
            time.sleep(0.05)
    finally:
        for process in running:
            process.kill()
            process.wait()
    for reader in readers:
        reader.join()
    return worst([process.returncode for process in running])


def worst(codes: list[int]) -> int:
    """The code that says what happened: of a process that ended by itself, if any did."""
    bad = [code for code in codes if code not in (0, -signal.SIGKILL)]
    named = [code for code in bad if code in FINAL]
    if named or bad:
        return (named or bad)[0]
    return next((code for code in codes if code), 0)


def _kill_late(running):
    """Gives those that know of a failure the time to say so, then kills."""
    deadline = time.monotonic() + 8.0
    while time.monotonic() < deadline and None in (codes := [item.poll() for item in running]):
        if -signal.SIGKILL in codes:
            break  # it told nobody
        time.sleep(0.05)
    for process in running:
        process.kill()


def _start(training, number, processes, devices, port):
    place = [f"--coordinator=127.0.0.1:{port}", f"--processes={processes}", f"--process={number}"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
    environment |= {"PYTHONUNBUFFERED": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.Popen(
        [sys.executable, "-m", "launch.train", *training, "--distributed", *place],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C is for us, who pass it on once
        preexec_fn=child_process.die_with_parent,
    )


def _relay(number, process):
    """Passes on what a process prints, marked unless it is the first's."""
    mark = f"[{number}] " if number else ""
    with contextlib.closing(process.stdout):
        for line in process.stdout:
            if not any(chatter in line for chatter in CHATTER):
                print(f"{mark}{line}", end="", file=sys.stderr, flush=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    cli.run(main)
