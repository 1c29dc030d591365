import random

from launch.config.errors import UserError
from tests.tools import flips


def test_a_flip_changes_one_bit(tmp_path):
    (tmp_path / "file").write_bytes(bytes(40))
    flips.flip(tmp_path / "file", random.Random(1))
    content = (tmp_path / "file").read_bytes()
    assert len(content) == 40
    assert sum(byte.bit_count() for byte in content) == 1


def test_outcomes(tmp_path):
    def refuse(workdir):
        raise UserError("no")

    def warn(workdir):
        flips.logging.getLogger("segen").warning("damaged")
        return 2

    assert flips.outcome(refuse, tmp_path, 1) == "refused"
    assert flips.outcome(warn, tmp_path, 1) == "said"
    assert flips.outcome(lambda workdir: 1, tmp_path, 1) == "same"
    assert flips.outcome(lambda workdir: 2, tmp_path, 1) == "silent"


def test_no_flip_changes_a_number_without_a_word(tmp_path, monkeypatch):
    monkeypatch.chdir(flips.runs.ROOT)
    count = flips.storm(tmp_path, 8, seed=0)
    assert count["silent"] == 0, count["files"]
    assert count["refused"] + count["said"] > 2
