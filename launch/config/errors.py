"""The exceptions that end a command, each with its exit code.

0 means done, and 1 an error in this program, shown with its stack trace.
"""

import errno

# Errors of a full or read-only disk, which the user can mend.
DISK_ERRORS = (
    errno.ENOSPC,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EDQUOT,
    errno.EEXIST,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
)


class CommandExit(Exception):
    """Ends a command with one message and one exit code, without a stack trace."""

    exit_code = 1


class UserError(CommandExit):
    """Something the user can mend: what is wrong, where, and what to do."""

    exit_code = 2


class Diverged(CommandExit):
    """The loss or a parameter is not finite; the last good checkpoint is kept.

    Args:
      message: for the user.
      step: the step, None where it is not known.
    """

    exit_code = 3

    def __init__(self, message: str, step: int | None = None):
        super().__init__(message)
        self.step = step


class Collapsed(CommandExit):
    """An evaluation broke the rule of config.collapse, and the run stops."""

    exit_code = 4


class Interrupted(CommandExit):
    """SIGTERM, SIGHUP or Ctrl-C: the run saved and left. The same command continues it."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: try again


class PeerLost(CommandExit):
    """Another process of the run did not start, or has ended; start all of them again."""

    exit_code = 76  # EX_PROTOCOL of sysexits.h


ABANDONED = 130  # exit code of a second Ctrl-C: nothing was saved (128 + SIGINT)
