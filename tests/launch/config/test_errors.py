import errno

import jax
import pytest

from launch.config import errors


def test_exit_codes_are_those_of_the_readme():
    kinds = ("CommandExit", "UserError", "Diverged", "Collapsed", "Interrupted", "PeerLost")
    assert [getattr(errors, name).exit_code for name in kinds] == [1, 2, 3, 4, 75, 76]
    assert errors.ABANDONED == 130
    assert all(issubclass(getattr(errors, name), errors.CommandExit) for name in kinds)


def test_a_divergence_may_name_its_step():
    assert errors.Diverged("the loss").step is None
    error = errors.Diverged("the loss", 7)
    assert (str(error), error.step) == ("the loss", 7)


def test_a_full_disk_is_the_users_to_mend():
    assert {errno.ENOSPC, errno.EROFS, errno.EACCES} < set(errors.DISK_ERRORS)
    assert errno.EPIPE not in errors.DISK_ERRORS


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "out of memory"),
        (MemoryError("array of 9 GiB"), "out of memory (array of 9 GiB)"),
        (OSError(errno.ENOMEM, "no memory"), "out of memory ([Errno 12] no memory)"),
        (
            jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory: 9 GiB\nmore"),
            "out of memory (Out of memory: 9 GiB)",
        ),
        (jax.errors.JaxRuntimeError("INTERNAL: no"), None),
        (ValueError("RESOURCE_EXHAUSTED"), None),
        (OSError(errno.ENOENT, "Out of memory"), None),
    ],
)
def test_memory_that_ran_out(error, words):
    assert errors.describe_out_of_memory(error) == words
