"""The ways a command ends, and the exit code of each.

0 is done, 1 a fault of ours (with its stack trace); the rest are below.
"""

import errno

# What a full or locked disk says, which is the user's to mend.
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
    """The loss is no longer finite; the last good checkpoint is kept.

    Attributes:
      step: at which, None where it is not known.
    """

    exit_code = 3

    def __init__(self, message: str, step: int | None = None):
        super().__init__(message)
        self.step = step


class Collapsed(CommandExit):
    """An evaluation broke the rule of config.collapse, and the run was to stop there."""

    exit_code = 4


class Interrupted(CommandExit):
    """SIGTERM or Ctrl-C: the run saved and left. The same command goes on."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: try again


class PeerLost(CommandExit):
    """Another process of the run is not there or gone; start all of them again."""

    exit_code = 76  # EX_PROTOCOL of sysexits.h


ABANDONED = 130  # a second Ctrl-C: left at once, nothing saved (128 + SIGINT)
