import re
from pathlib import Path

import pytest

from launch.benchmarks.measuring import plan, work
from launch.benchmarks.measuring.plan import DATA, GROUPS
from launch.config import loading
from launch.config.errors import UserError
from tests.test_configs import SPECS

RESULTS = Path(__file__).resolve().parents[4] / "docs" / "results.md"
PIECES = plan.pieces()


def test_the_pieces_are_in_the_order_of_their_groups():
    assert list(dict.fromkeys(piece.group for piece in PIECES)) == list(GROUPS)
    assert len({piece.name for piece in PIECES}) == len(PIECES)
    assert {piece.data for piece in PIECES} == {"", *DATA}


def test_everything_that_the_results_mark_as_not_measured_is_a_run():
    lines = [line for line in RESULTS.read_text().splitlines() if "**not measured**" in line]
    named = {name for line in lines for name in re.findall(r"`(?:configs/)?(\w+\.py:\w+)`", line)}
    assert named
    trained = {piece.config for piece in PIECES if piece.job == "train"}
    assert {f"configs/{name}" for name in named} <= trained
    fast = {piece.config for piece in PIECES if piece.job == "speed"}
    assert {f"configs/{name}" for name in named} <= fast
    assert {f"configs/gan.py:{loss}" for loss in plan.LOSSES} <= trained


@pytest.mark.parametrize("dry", [False, True])
def test_the_overrides_of_every_piece_fit_its_config(tmp_path, dry):
    for data in ({}, dict.fromkeys(DATA, tmp_path)):
        setting = work.Setting(tmp_path, "1 x cpu", "cpu", data, dry, {})
        for piece in plan.pieces():
            assert piece.config in SPECS
            overrides = work.arguments(piece, setting)[1:]
            config = loading.override(loading.load(piece.config), overrides)
            assert config.train.steps == work.total_steps(piece, setting)
            if dry:
                assert config.train.steps == 40 or piece.group == "correctness"


def test_the_first_of_its_metrics_is_the_one_that_a_run_is_for():
    runs = [piece for piece in PIECES if piece.job == "train"]
    assert all(piece.metrics and piece.score and piece.small_score for piece in runs)
    assert {piece.metrics[0] for piece in runs} == {"nll", "mean_iou", "ODS", "fid"}


def test_pieces_are_chosen_by_the_beginnings_of_their_names():
    assert plan.choose("") == PIECES
    names = [piece.name for piece in plan.choose("runs/iwae, correctness/losses-v")]
    assert names == ["correctness/losses-vae", "runs/iwae"]
    assert {piece.group for piece in plan.choose("throughput")} == {"throughput"}
    with pytest.raises(UserError, match=r"no piece begins with 'speed'; there are correctness, "):
        plan.choose("runs,speed")


def test_a_dry_run_takes_one_seed_of_each_gan():
    runs = [piece.name for piece in plan.choose("runs/gan", dry=True)]
    assert runs == [f"runs/gan_{loss}-0" for loss in plan.LOSSES]
    assert len(plan.choose("runs/gan")) == 20
