import json
import shutil
from pathlib import Path

import pytest

from launch.config import copies, loading, run_config, schema
from launch.config.errors import UserError

VAE = str(Path(__file__).parents[3] / "configs" / "vae.py")


@pytest.fixture
def saved(tmp_path):
    """A run with a whole copy of its config in step 20, and none in steps 5 and 100."""
    text = run_config.to_json(loading.load(VAE), {"classes": ["a"]})
    run_config.write(tmp_path, text)
    for step, content in ((5, text), (20, text), (100, text.replace("128", "129"))):
        folder = tmp_path / "checkpoints" / str(step) / "run"
        folder.mkdir(parents=True)
        (folder / "metadata").write_text(content)
    return tmp_path


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        (b'"batch_size": 128', b'"batch_size": 129', "data.batch_size: 129 here, 128 in the copy"),
        (b'"beta": 1.0', b'"beto": 1.0', "task.beta: None here, 1.0 in the copy"),
        (b'"a"', b'"b"', r"data.classes: \['b'\] here, \['a'\] in the copy"),
        (b'"format": 3', b'"format": 2', "format: 2 here, 3 in the copy"),
        (b'"sha256": "', b'"sha256": "f', "no value differs: the checksum in it does"),
    ],
)
def test_a_key_that_has_changed_is_named_with_what_to_do(saved, before, after, line):
    path = saved / "config.json"
    content = path.read_bytes()
    assert before in content
    path.write_bytes(content.replace(before, after, 1))
    advice = r"The copy is .*checkpoints/20/run/metadata\. Put the old values back, or"
    message = rf"(?s)config.json has changed since it was written\n.*{line}\n.*{advice}"
    with pytest.raises(UserError, match=message):
        run_config.read_config(saved)
    with pytest.raises(UserError, match=message):
        run_config.check_continues(saved, loading.load(VAE))


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[]", b'{"versions": 1}', b"", b"\x00"])
def test_bytes_that_are_no_config_are_damage(saved, content):
    (saved / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=r"(?s)config.json is damaged .*The copy is .*/20/run"):
        run_config.read(saved)
    shutil.rmtree(saved / "checkpoints")
    with pytest.raises(UserError, match=r"is damaged .*no checkpoint has a copy of it"):
        run_config.read(saved)


def test_a_link_is_not_read(saved):
    (saved / "config.json").rename(saved / "other")
    (saved / "config.json").symlink_to("other")
    with pytest.raises(UserError, match=r"has no config.json; the next start .* copy in .*/20/run"):
        run_config.read(saved)


def test_spaces_and_the_order_of_keys_do_not_matter(saved):
    record = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(dict(reversed(record.items()))))
    assert run_config.read(saved)[0] == record


def test_a_step_of_another_run_is_refused(tmp_path):
    config = loading.load(VAE)
    copy = json.loads(run_config.to_json(config))
    run_config.write(tmp_path, json.dumps(copy))
    copies.check_same_run(tmp_path, copy, tmp_path)
    run_config.write(tmp_path, run_config.to_json(schema.with_values(config, {"train.steps": 7})))
    copies.check_same_run(tmp_path, copy, tmp_path)
    run_config.write(tmp_path, run_config.to_json(schema.with_values(config, {"seed": 7})))
    message = rf"{tmp_path} was saved by .*\n  seed: 0 -> 7\n.*a copy is in {tmp_path}/run/metadata"
    with pytest.raises(UserError, match=message):
        copies.check_same_run(tmp_path, copy, tmp_path)
    with pytest.raises(UserError, match=r"was saved by a run with another config"):
        copies.check_same_run(tmp_path, {}, tmp_path)
