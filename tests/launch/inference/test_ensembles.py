import copy
import json

import numpy as np
import pytest

from launch.config import run_config, schema
from launch.config.errors import UserError
from launch.inference import ensembles

FACTS = {
    "classes": ["a", "b"],
    "example": {"image": ["uint8", 8, 8, 3], "segmentation": ["uint8", 8, 8, 1]},
    "reading": {},
}


def make_run(folder, facts=FACTS, **task):
    folder.mkdir(parents=True, exist_ok=True)
    config = schema.defaults()
    with config.unlocked():
        config.task = {"name": "mine:task", "classes": 2, **task}
    run_config.write(folder, run_config.to_json(config, facts))
    return folder


def test_a_folder_of_folds_is_all_of_its_runs(tmp_path, capsys):
    runs = [make_run(tmp_path / "cv" / f"fold{number}") for number in (1, 2, 10)]
    (tmp_path / "cv" / "fold3").mkdir()  # not begun
    single = make_run(tmp_path / "one")
    assert ensembles.find_runs([tmp_path / "cv"]) == runs
    assert f"{tmp_path / 'cv'}: fold1, fold2, fold10" in capsys.readouterr().err
    assert ensembles.find_runs([single, runs[0]]) == [single, runs[0]]
    assert ensembles.find_runs([tmp_path / "none"]) == [tmp_path / "none"]
    make_run(tmp_path / "one" / "fold1")
    assert ensembles.find_runs([single]) == [single]
    with pytest.raises(UserError, match="fold2 is given twice"):
        ensembles.find_runs([tmp_path / "cv", runs[1]])


def changed(**changes):
    return copy.deepcopy(FACTS) | changes


@pytest.mark.parametrize(
    ("facts", "task", "message"),
    [
        (changed(classes=["b", "a"]), {}, "it has the classes b, a there, a, b here"),
        (FACTS, {"names": ("x", "y")}, "it has the classes x, y there, a, b here"),
        (
            changed(example={"image": ["uint8", 8, 8, 4]}),
            {},
            "it sees channels 4 there, 3 here",
        ),
        (changed(reading={"dtype": "uint16"}), {}, "it sees values of 'uint16' there, 'uint8'"),
        (FACTS, {"name": "mine:other"}, "config.task.name is 'mine:other' there, 'mine:task'"),
        (FACTS, {"thresholds": (0.2, 0.3)}, "config.task.thresholds is 0.2, 0.3 there, None"),
    ],
)
def test_runs_that_cannot_be_averaged(tmp_path, facts, task, message):
    one, other = make_run(tmp_path / "one"), make_run(tmp_path / "other", facts, **task)
    with pytest.raises(UserError, match=rf"other and .*one cannot be averaged: {message}"):
        ensembles.check_alike([one, other])


def test_runs_of_other_nets_and_sizes_can_be_averaged(tmp_path):
    large = changed(example={"image": ["uint8", 64, 64, 3]})
    runs = [make_run(tmp_path / "one"), make_run(tmp_path / "two", large, loss={"name": "x"})]
    ensembles.check_alike(runs)
    with pytest.raises(UserError, match="no such directory"):
        ensembles.check_alike([*runs, tmp_path / "none"])


def test_records_are_as_runs_write_them(tmp_path):
    """The keys that are compared are those of config.json."""
    record = json.loads((make_run(tmp_path) / "config.json").read_text())
    assert {"task", "predict"} <= record["config"].keys()
    assert {"refine", "postprocess"} <= record["config"]["predict"].keys()


def strips(maps, rows):
    height = len(next(iter(maps.values())))
    for top in range(0, height, rows):
        yield {name: leaf[top : top + rows] for name, leaf in maps.items()}


def entropy(p):
    return -(p * np.log(p)).sum(-1)


def test_the_mean_over_strips_of_any_heights():
    rng = np.random.default_rng(0)
    maps = [{"presence": rng.random((23, 5, 4)).astype(np.float32)} for _ in range(3)]
    streams = [strips(one, rows) for one, rows in zip(maps, (7, 23, 3), strict=True)]
    found = np.concatenate([part["presence"] for part in ensembles.mean_strips(streams)])
    mean = np.mean([one["presence"] for one in maps], 0)
    np.testing.assert_allclose(found, mean, atol=1e-6)


def test_what_the_members_disagree_in():
    """The information of label and net, and of dropout samples where a member has them."""
    rng = np.random.default_rng(0)
    samples = rng.dirichlet(np.ones(3), (4, 6, 5)).astype(np.float32)
    plain = {"probability": samples[0], "entropy": entropy(samples[0])}
    mean = samples[1:].mean(0)
    within = entropy(samples[1:]).mean(0)
    dropped = {"probability": mean, "entropy": entropy(mean), "information": entropy(mean) - within}
    (found,) = ensembles.mean_strips([strips(plain, 6), strips(dropped, 6)])
    whole = (samples[0] + mean) / 2
    np.testing.assert_allclose(found["entropy"], entropy(whole), atol=1e-5)
    expected = entropy(whole) - (entropy(samples[0]) + within) / 2
    np.testing.assert_allclose(found["information"], expected, atol=1e-5)
    (found,) = ensembles.mean_strips([strips(plain, 6)] * 1 + [strips(plain, 6)])
    np.testing.assert_allclose(found["information"], 0, atol=1e-6)
