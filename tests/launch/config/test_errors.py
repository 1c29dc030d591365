import errno

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
