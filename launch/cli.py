"""Arguments, messages and exit codes of all commands."""

import argparse
import hashlib
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from absl import logging as absl_logging
from tqdm import tqdm

from launch import distributed, storage
from launch.config.errors import (
    ABANDONED,
    DISK_ERRORS,
    CommandExit,
    Interrupted,
    UserError,
    describe_out_of_memory,
)
from launch.engine import preemption
from launch.reporting import outputs

logger = logging.getLogger("segen")

# Options that may differ between the processes of a command: which one it is, and where its host
# keeps files. Of other paths only their presence is compared.
OWN = ("coordinator", "process", "wait", "config", "images", "condition")


def run(main: Callable[[list[str]], None]) -> None:
    """Runs a command and exits with its code.

    A mistake of the user is one message on stderr; an error in this program shows its stack
    trace. A command goes on when nobody can read its outputs any more.

    Args:
      main: takes the arguments of the command line.
    """
    install_handler()
    with outputs.protected(), preemption.signals_as_exceptions():
        try:
            main(sys.argv[1:])
            outputs.check_results()
        except BaseException as error:
            known = ending(error)
            if known is None:
                raise
            message, code = known
            logger.error(message)
            sys.exit(code)


def ending(error: BaseException) -> tuple[str, int] | None:
    """The message and the exit code of an error; None for an error in this program."""
    if isinstance(error, CommandExit):
        return str(error), error.exit_code
    if isinstance(error, preemption.Terminated):
        return str(error), Interrupted.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "left at once; nothing was saved", ABANDONED
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        problem = f"cannot write {error.filename or 'a file'}: {os.strerror(error.errno)}"
        return problem, UserError.exit_code
    if problem := describe_out_of_memory(error):
        from launch.engine import memory_advice

        return f"{problem}. {memory_advice.LESS}", UserError.exit_code
    from launch.storage import bucket

    if problem := bucket.describe_bucket_error(error):
        return problem, UserError.exit_code
    return None


@contextmanager
def together(options: argparse.Namespace, saves: bool = False) -> Iterator[distributed.Group]:
    """Prepares JAX, and joins the other processes of a command; all of them end together.

    Args:
      options: the parsed options, with those of `distributed.add_arguments`.
      saves: whether the command answers SIGTERM by itself, as a training does.

    Yields:
      The processes.

    Raises:
      UserError: the options do not say which process this is, or processes have other options.
      PeerLost: another process does not arrive in time.
    """
    from launch.engine import sharding  # loads JAX, which not all commands need

    sharding.set_up_jax()
    group = distributed.start(options)
    with group.abort_together(ending):
        if group.processes > 1:
            group.check_same("the command line", _shared_options(options))
        if saves:
            yield group
            return
        with preemption.signals_as_exceptions():  # JAX has taken SIGTERM, to ask for a save
            yield group


def _shared_options(options):
    """{name: value as text, or its hash} of the options that all processes must be given."""
    facts = {}
    for name, value in vars(options).items():
        text = "a path" if isinstance(value, os.PathLike) else str(value)
        if name not in OWN:  # there may be millions of seeds
            facts[name] = text if len(text) < 200 else hashlib.sha256(text.encode()).hexdigest()
    return facts


class TerminalHandler(logging.Handler):
    """Writes log records as plain lines to stderr, above the progress line if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one record."""
        tqdm.write(self.format(record), file=sys.stderr)
        sys.stderr.flush()


def install_handler() -> None:
    """Adds a handler that writes to the terminal to the logger "segen", if it has none."""
    tqdm.set_lock(threading.RLock())  # its own is a semaphore that a killed process leaves behind
    if hasattr(sys.stdout, "reconfigure"):  # names of files need not be text
        sys.stdout.reconfigure(errors="backslashreplace")
    if not any(isinstance(handler, TerminalHandler) for handler in logger.handlers):
        logger.addHandler(TerminalHandler())
        logger.propagate = False
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one message, without a list of all flags."""

    def error(self, message: str) -> NoReturn:
        """Prints what is wrong and exits with 2."""
        self.exit(2, f"{self.prog}: {message}\n(--help lists the flags)\n")


def parser(module: str, description: str) -> Parser:
    """An argument parser for `python -m launch.<module>`."""
    return Parser(
        prog=f"python -m launch.{module}",
        description=description,
        epilog="Commands with a config or a run take any key as --config.KEY=VALUE. Exit codes: "
        "0 done, 1 an error in this program, 2 your mistake, 3 the loss is not finite, 4 the model "
        "collapsed, 75 interrupted and saved, 76 another process of the run is missing, 130 a "
        "second Ctrl-C.",
        allow_abbrev=False,
    )


def parse(
    arguments: argparse.ArgumentParser, argv: list[str]
) -> tuple[argparse.Namespace, list[str]]:
    """Splits argv into a command's own arguments and config overrides.

    Args:
      arguments: the parser of the command.
      argv: the command line.

    Returns:
      The command's own arguments, and a list of "--config.KEY=VALUE".
    """
    overrides, rest, items = [], [], iter(argv)
    for item in items:
        if not re.match(r"--?config\.", item):
            rest.append(item)
        elif "=" in item:
            overrides.append(item)
        else:
            overrides.append(f"{item}={next(items, '')}")
    quiet()
    install_handler()
    return arguments.parse_args(rest), overrides


def parse_alone(arguments: argparse.ArgumentParser, argv: list[str]) -> argparse.Namespace:
    """Parses the arguments of a command that has no config.

    Args:
      arguments: the parser of the command.
      argv: the command line.

    Raises:
      UserError: a config override is among them.
    """
    options, overrides = parse(arguments, argv)
    if overrides:
        raise UserError(f"{arguments.prog} takes no config: {' '.join(overrides)}")
    return options


def workdir(value: str) -> Path:
    """The argument type of --workdir: an absolute path (Orbax takes no other), or gs://..."""
    return storage.path(value)


def quiet() -> None:
    """Keeps log lines and stack traces of libraries off the terminal.

    Errors in their threads reach the main thread as exceptions, and the user as one message.
    """
    absl_logging.set_verbosity(absl_logging.FATAL)
    for name in ("jax", "orbax", "tensorflow_datasets", "gcsfs", "google"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    threading.excepthook = _unless_disk_error


def _unless_disk_error(failure):
    # In the thread of a log writer; the main thread meets the same full disk and reports it.
    if not (isinstance(failure.exc_value, OSError) and failure.exc_value.errno in DISK_ERRORS):
        threading.__excepthook__(failure)
