import shutil

import pytest

from tests.launch.checkpoints import states


@pytest.fixture
def folder(tmp_path):
    """A run's checkpoints folder, not made yet."""
    return tmp_path / "checkpoints"


@pytest.fixture(scope="package")
def three_steps(tmp_path_factory):
    folder = tmp_path_factory.mktemp("three") / "checkpoints"
    states.save(folder, {10: 1.0, 20: None, 30: 3.0}, keep=3)
    return folder


@pytest.fixture
def saved(three_steps, folder):
    """A folder with steps 10, 20 (without metrics) and 30, for one test to damage."""
    shutil.copytree(three_steps, folder)
    return folder
