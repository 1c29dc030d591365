import json

import pytest

from launch import inspect, train
from launch.config.errors import CommandExit, UserError


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, request):
    small = request.getfixturevalue("small_config")
    folder = tmp_path_factory.mktemp("inspected") / "run"
    train.train(small, folder)
    return folder


def lines(capsys, *arguments):
    inspect.main([*map(str, arguments)])
    return capsys.readouterr().out.splitlines()


def test_a_whole_run(capsys, workdir):
    found = lines(capsys, workdir)
    assert found[0].endswith("jaxgen.vae:vae on digits; 40 of 40 steps saved")
    assert [line.split()[:2] for line in found[1:3]] == [["step", "30"], ["step", "40"]]
    assert all(" whole" in line for line in found[1:3])
    assert "versions: as installed now" in found
    assert any(line.startswith("  test negative_elbo") for line in found)


def test_damage_is_named_and_ends_with_1(capsys, workdir):
    file = max((workdir / "checkpoints" / "40").rglob("*"), key=lambda p: p.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    whole = file.read_bytes()
    file.write_bytes(content)
    try:
        with pytest.raises(CommandExit, match=r"damaged: step 40$") as stop:
            lines(capsys, workdir)
    finally:
        file.write_bytes(whole)
    assert stop.value.exit_code == 1
    assert f"the content of {file.relative_to(workdir / 'checkpoints' / '40')} has changed" in (
        capsys.readouterr().out
    )


def test_versions_and_keys_that_differ_are_listed(capsys, workdir):
    path = workdir / "config.json"
    before = path.read_text()
    record = json.loads(before)
    record["versions"]["jax"] = "0.1"
    path.write_text(json.dumps(record))
    try:
        found = lines(capsys, workdir, "--config=configs/vae.py", "--config.seed=3")
    finally:
        path.write_text(before)
    assert any(line.startswith("  jax: 0.1 then, ") for line in found)
    assert "  seed: 0 here, 3 there" in found


def test_a_half_line_and_what_was_cut_off_or_set_aside_are_told(capsys, tmp_path, workdir):
    (tmp_path / "config.json").write_text((workdir / "config.json").read_text())
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "split": "train", "loss": 2.0}\n{"st')
    (tmp_path / "checkpoints" / "10.orbax-checkpoint-tmp").mkdir(parents=True)
    (tmp_path / "damaged" / "20").mkdir(parents=True)
    (tmp_path / "nonfinite").mkdir()
    (tmp_path / "nonfinite" / "step-00000007.npz").touch()
    found = "\n".join(lines(capsys, tmp_path))
    assert "none of 40 steps saved" in found
    assert "10.orbax-checkpoint-tmp: a save that was cut off" in found
    assert "damaged/20: set aside" in found
    assert "nonfinite/step-00000007.npz: a batch whose loss was not finite" in found
    assert "1 lines cannot be read" in found


def test_what_is_no_run_is_a_mistake(tmp_path):
    with pytest.raises(UserError, match=r"is not a run: it has no config\.json"):
        inspect.main([str(tmp_path)])


def test_a_sparkline_shows_where_values_are_no_numbers():
    assert inspect.sparkline([0.0, float("nan"), 6.0, 8.0]) == "▁x▇█"
    assert inspect.sparkline([3.0]) == "▁"
    assert len(inspect.sparkline(list(range(1000)))) == inspect.WIDTH
