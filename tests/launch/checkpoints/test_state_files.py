import json
import shutil

import numpy as np
import pytest

from launch import checkpoints
from launch.checkpoints import restoring, state_files
from launch.storage import checksums
from tests.launch.checkpoints import states


@pytest.mark.parametrize("name", ["b[1]", "**", "a*b #%", "日本\n'\""])
def test_no_part_of_a_path_is_a_pattern(tmp_path, name):
    folder = tmp_path / name / "checkpoints"
    states.save(folder, {1: 1.0})
    assert checkpoints.newest_whole(folder) == 1
    found = restoring.restore(folder, 1, states.template())
    np.testing.assert_array_equal(found.params["net"]["kernel"], 1)
    found, _ = restoring.restore_fitting(folder, 1, {"params": states.template().params})
    np.testing.assert_array_equal(found["params"]["net"]["kernel"], 1)


def test_files_of_folders_that_a_pattern_would_match_are_left_out(tmp_path):
    for name in ("a*", "ab"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x1").touch()
    found = list(state_files.for_orbax(tmp_path / "a*").glob("x*"))
    assert [str(path) for path in found] == [str(tmp_path / "a*" / "x1")]
    assert isinstance(found[0], state_files.LiteralPath)
    assert state_files.for_orbax("gs://b/x") == "gs://b/x"


def test_every_array_is_found_in_the_index(saved):
    assert state_files.find_unreadable(saved / "10") is None
    assert state_files.find_damage(saved / "10") is None


def test_a_step_whose_state_cannot_be_read_is_not_whole(saved):
    """Its manifest agrees with its files, as if the fault had happened before the manifest."""
    step, metadata = saved / "30", saved / "30" / "state" / "_METADATA"
    content = json.loads(metadata.read_text())
    key = next(key for key in content["tree_metadata"] if "kernel" in key)
    leaf = json.loads(json.dumps(content["tree_metadata"][key]).replace("kernel", "other"))
    more = content["tree_metadata"] | {"other": leaf}
    empty = json.loads(json.dumps(leaf)) | {"value_metadata": {"skip_deserialize": True}}
    metadata.write_text(json.dumps({"tree_metadata": {"none": empty}}))
    assert state_files.find_unreadable(step) is None
    faults = {
        json.dumps({"tree_metadata": more}): "state has no array 'params.net.other'",
        "{}": "the index of state cannot be read (KeyError)",
        "[]": "the index of state cannot be read (TypeError)",
    }
    for text, fault in faults.items():
        metadata.write_text(text)
        checksums.write(step)
        assert checksums.find_damage(step) is None
        assert state_files.find_damage(step) == fault
    metadata.unlink()
    assert state_files.find_unreadable(step) == "state/_METADATA is missing"
    shutil.rmtree(saved / "20" / "run")
    checksums.write(saved / "20")
    assert state_files.find_damage(saved / "20") == "run/metadata is missing"
    shutil.rmtree(saved / "10" / "state" / "d")
    (saved / "10" / "state" / "manifest.ocdbt").unlink()
    checksums.write(saved / "10")
    assert "state has no array" in state_files.find_damage(saved / "10")
