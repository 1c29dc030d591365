"""python -m launch.local --processes=4 --devices=2 -- --config=configs/vae.py --workdir=runs/x

Trains with several processes on this machine, on simulated CPU devices, as a test of a
distributed run. If one process dies, all start again and go on from the last checkpoint.
Another command is named before its arguments: `launch.local evaluate -- --workdir=runs/x`.
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
from launch.config.errors import ABANDONED, Collapsed, CommandExit, Diverged, Interrupted, UserError
from launch.distributed import child_process

logger = logging.getLogger("segen")

COMMANDS = ("train", "evaluate", "sample", "predict", "audit")  # those that take --distributed
# Exit codes after which another start of a training would end in the same way.
FINAL = {0, UserError.exit_code, Diverged.exit_code, Collapsed.exit_code, ABANDONED}
# Lines that XLA's CPU collectives print, and that help no user.
IGNORED = ("[Gloo]", "connected peer ranks")
# Seconds after which a start counts as a success, so that the count of failures starts anew.
SUCCESS = 60.0
# Seconds in which the processes that know of a failure report it, before all are killed.
GRACE = 8.0


def main(argv: list[str]) -> None:
    """Parses the command line and supervises."""
    arguments = cli.parser(
        "local", "Trains, or runs another command, with several processes on this machine."
    )
    add = arguments.add_argument
    add("--processes", type=int, default=2, help="how many processes (default: 2)")
    add("--devices", type=int, default=1, help="simulated CPU devices of each (default: 1)")
    add(
        "--restarts",
        type=int,
        default=3,
        help="how often to start again after a process died (default: 3); counted anew once a "
        "start lasts a minute",
    )
    text = f"{', '.join(COMMANDS)} (default: {COMMANDS[0]})"
    add("command", nargs="?", default=COMMANDS[0], choices=COMMANDS, metavar="COMMAND", help=text)
    add("rest", nargs="*", metavar="-- ARGUMENT", help="arguments of the command")
    cut = argv.index("--") if "--" in argv else len(argv)
    options = arguments.parse_args(argv[:cut])
    for name in ("processes", "devices"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name} must be at least 1, got {getattr(options, name)}")
    if not argv[cut + 1 :]:
        example = "--config=configs/vae.py" if options.command == "train" else "--workdir=runs/x"
        raise UserError(f"give the arguments of launch.{options.command} after --: -- {example}")
    command = [options.command, *argv[cut + 1 :]]
    sys.exit(supervise(command, options.processes, options.devices, options.restarts))


def supervise(command: list[str], processes: int, devices: int, restarts: int) -> int:
    """Starts the processes, again and again, until the command ends.

    SIGTERM, SIGHUP and Ctrl-C end the command: its processes leave, a training saves first, and
    none is started again.

    Args:
      command: one of `COMMANDS`, and its arguments.
      processes: how many processes.
      devices: how many simulated devices each process has.
      restarts: how many starts in a row may fail before this function gives up.

    Returns:
      The exit code of the last start; see `attempt`.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, lambda *_: stop.set())
    failures = 0
    while True:
        began = time.monotonic()
        code = attempt(command, processes, devices, stop)
        if code in final_codes(command[0]) or stop.is_set():
            return code
        failures = 0 if time.monotonic() - began > SUCCESS else failures
        if code != Interrupted.exit_code:
            failures += 1
        if failures > restarts:
            logger.info(f"giving up after {failures} failures in a row")
            return code
        logger.info(f"ended with code {code}; all {processes} processes start again")


def final_codes(command: str) -> set[int]:
    """Exit codes after which another start of a command would end in the same way."""
    return FINAL if command == "train" else FINAL | {CommandExit.exit_code}


def attempt(command: list[str], processes: int, devices: int, stop: threading.Event) -> int:
    """Starts all processes once, and waits until they end.

    When a process ends with a code other than 0 and 75, the others are killed: they would wait
    for it, and a kill loses nothing but the steps since the last save.

    Args:
      command: one of `COMMANDS`, and its arguments.
      processes: how many processes.
      devices: how many simulated devices each process has.
      stop: when set, the processes are asked to save and leave.

    Returns:
      The exit code of all processes; see `exit_code`.
    """
    port = _free_port()
    running = [_start(command, number, processes, devices, port) for number in range(processes)]
    readers = [
        threading.Thread(target=_relay, args=(number, stream, name))
        for number, process in enumerate(running)
        for name, stream in (("stdout", process.stdout), ("stderr", process.stderr))
    ]
    for reader in readers:
        reader.start()
    asked = False
    try:
        while None in (codes := [process.poll() for process in running]):
            if stop.is_set() and not asked:
                asked = True
                running[0].terminate()  # JAX tells the other processes
            if any(code not in (None, 0, Interrupted.exit_code) for code in codes):
                _kill_late(running)
            time.sleep(0.05)
    finally:
        for process in running:
            process.kill()
            process.wait()
    for reader in readers:
        reader.join()
    return exit_code([process.returncode for process in running])


def exit_code(codes: list[int]) -> int:
    """Chooses the exit code that explains the end of all processes.

    Args:
      codes: the exit code of each process, negative for the signal that ended it.

    Returns:
      A code of FINAL if a process failed with one; else the code of a process that was not
      killed by SIGKILL, because this module itself kills the rest.
    """
    failed = [code for code in codes if code not in (0, -signal.SIGKILL)]
    final = [code for code in failed if code in FINAL]
    if final or failed:
        return (final or failed)[0]
    return next((code for code in codes if code), 0)


def _kill_late(running):
    """Gives the processes time to report the failure, then kills them."""
    deadline = time.monotonic() + GRACE
    while time.monotonic() < deadline and None in (codes := [item.poll() for item in running]):
        if -signal.SIGKILL in codes:
            break  # a killed process has reported nothing
        time.sleep(0.05)
    for process in running:
        process.kill()


def _start(command, number, processes, devices, port):
    place = [f"--coordinator=127.0.0.1:{port}", f"--processes={processes}", f"--process={number}"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
    environment |= {"PYTHONUNBUFFERED": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.Popen(
        [sys.executable, "-m", f"launch.{command[0]}", *command[1:], "--distributed", *place],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # so that Ctrl-C reaches only the supervisor
        preexec_fn=child_process.die_with_parent,
    )


def _relay(number, stream, name):
    """Prints an output of a process to our own of that name, with its number unless that is 0."""
    mark = f"[{number}] " if number else ""
    with contextlib.closing(stream):
        for line in stream:
            if not any(words in line for words in IGNORED):
                print(f"{mark}{line}", end="", file=getattr(sys, name), flush=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    cli.run(main)
