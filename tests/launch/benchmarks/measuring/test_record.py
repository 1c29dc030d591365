from launch.benchmarks.measuring import plan
from launch.benchmarks.measuring.record import Record

SPEED, RUN = plan.choose("throughput/vae")[0], plan.choose("runs/iwae")[0]
VERSIONS = {"segen": "1", "jax": "2"}


def test_a_result_is_that_of_a_card_and_of_versions(tmp_path):
    record = Record(tmp_path, "1 x A / B (80 GB)", VERSIONS)
    assert record.get(SPEED) is None
    record.put(SPEED, {"rate": 3.0})
    assert record.get(SPEED) == {"rate": 3.0}
    record.put(SPEED, {"rate": 4.0})
    assert Record(tmp_path, "1 x A / B (80 GB)", VERSIONS).get(SPEED) == {"rate": 4.0}
    assert Record(tmp_path, "1 x C", VERSIONS).get(SPEED) is None
    assert Record(tmp_path, "1 x A / B (80 GB)", VERSIONS | {"jax": "3"}).get(SPEED) is None


def test_a_run_may_have_been_trained_by_another_card(tmp_path):
    Record(tmp_path, "1 x A", VERSIONS).put(RUN, {"nll": 84.0})
    assert Record(tmp_path, "1 x C", VERSIONS).get(RUN) == {"nll": 84.0}


def test_a_broken_file_is_no_result(tmp_path):
    record = Record(tmp_path, "1 x A", VERSIONS)
    record.put(SPEED, {"rate": 3.0})
    (path,) = (tmp_path / "results").rglob("*.json")
    path.write_text("{")
    assert record.get(SPEED) is None
