"""The folder of a run on this machine; `test_bucket_workdir.py` has the one in a bucket."""

import shutil

import pytest

from launch.config.errors import UserError
from launch.storage.bucket_workdir import BucketWorkdir
from launch.storage.workdir import Workdir, make_workdir


def test_metrics_are_written_into_the_folder_itself(tmp_path):
    workdir = make_workdir(tmp_path / "runs" / "a")
    with workdir.open():
        assert workdir.local_path == workdir.path == tmp_path / "runs" / "a"
        workdir.sync()
    assert [path.name for path in workdir.path.iterdir()] == [".lock"]


def test_one_process_holds_it(tmp_path):
    message = f"{tmp_path} is in use by process .* on .*--workdir"
    second = Workdir(tmp_path).open()
    with Workdir(tmp_path).open(), pytest.raises(UserError, match=message):
        second.__enter__()
    with Workdir(tmp_path).open():
        pass


def test_the_path_decides_between_disk_and_bucket(tmp_path, place):
    assert type(make_workdir(tmp_path)) is Workdir
    assert type(make_workdir(place)) is BucketWorkdir


@pytest.mark.parametrize("how", ["removed", "renamed", "made anew", "nothing"])
def test_a_folder_that_is_not_there_any_more_is_named(tmp_path, how):
    path = tmp_path / "run"
    workdir = Workdir(path)
    workdir.check_held()  # not yet opened

    def fail():
        with workdir.open():
            workdir.check_held()
            if how != "nothing":
                path.rename(tmp_path / "elsewhere")
            if how == "removed":
                shutil.rmtree(tmp_path / "elsewhere")
            if how == "made anew":
                path.mkdir()
                (path / ".lock").write_text("")
            raise FileNotFoundError("some file")

    error, message = UserError, f"{path} was removed or renamed while the run went on"
    if how == "nothing":
        error, message = FileNotFoundError, "some file"
    with pytest.raises(error, match=message):
        fail()
    workdir.check_held()  # closed


def test_only_a_failure_or_a_check_looks_for_the_folder(tmp_path):
    workdir = Workdir(tmp_path / "run")
    with workdir.open():
        (tmp_path / "run").rename(tmp_path / "elsewhere")
        with pytest.raises(UserError, match="removed or renamed"):
            workdir.check_held()
