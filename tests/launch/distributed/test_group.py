import importlib
import subprocess
import sys

import pytest

from launch import cli, distributed, local
from launch.config.errors import UserError
from launch.distributed import processes


def parse(*arguments):
    parser = cli.parser("train", "")
    distributed.add_arguments(parser)
    return parser.parse_args(arguments)


def test_one_process_does_everything_itself(tmp_path):
    group = distributed.ALONE
    assert (group.process, group.processes, len(group.hosts)) == (0, 1, 1)
    assert group.is_process_zero
    assert group.title(0) == f"process 0 of 1 ({group.hosts[0]})"
    assert group.title(1) == "process 1 of 1 (host unknown)"
    assert group.all_gather("x", 3) == [3]
    assert group.on_process_zero("x", lambda: 5, 9.0) == 5
    assert group.on_all("x", lambda: 7) == 7
    assert group.preempted(1) is False
    group.check_same("x", {"a": 1})
    group.check_shared(tmp_path)
    group.share_compilation_cache(tmp_path)
    with pytest.raises(ZeroDivisionError), group.abort_together(pytest.fail):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--processes=2"], "go together"),
        (["--coordinator=a:1", "--processes=2"], "go together"),
        (["--coordinator=a:1", "--processes=2", "--process=2"], "count from 0"),
        (["--coordinator=a:1", "--processes=2", "--process=-1"], "count from 0"),
        (["--wait=4"], "--wait has no effect without --distributed"),
    ],
)
def test_arguments_that_do_not_say_which_process_this_is(arguments, message):
    with pytest.raises(UserError, match=message):
        distributed.start(parse(*arguments))


def test_without_arguments_a_run_has_one_process():
    assert distributed.start(parse()) is distributed.ALONE


def test_arguments_reach_the_group_of_several_processes(monkeypatch):
    monkeypatch.setattr(processes, "join", lambda *given: given)
    assert distributed.start(parse("--distributed")) == ((None, None, None), 300.0)
    arguments = ["--coordinator=a:1", "--processes=2", "--process=0", "--wait=4"]
    assert distributed.start(parse(*arguments)) == (("a:1", 2, 0), 4.0)


@pytest.mark.parametrize("command", local.COMMANDS)
def test_every_command_of_several_processes_asks_for_the_address(command):
    """On a machine of no cluster: one message, before anything is opened."""
    needed = {
        "train": ["--config=configs/vae.py", "--workdir=none"],
        "predict": ["--workdir=none", "--images=none", "--out=none"],
    }
    main = importlib.import_module(f"launch.{command}").main
    with pytest.raises(UserError, match=r"give --coordinator=HOST:PORT, --processes and --proc"):
        main([*needed.get(command, ["--workdir=none"]), "--distributed"])


def test_a_run_of_one_process_loads_no_code_for_several():
    script = "import sys, launch.train; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert {"launch.distributed.group", "launch.storage.workdir"} <= loaded, done.stderr
    rest = ("distributed.processes", "distributed.private_jax", "distributed.startup_barrier")
    rest += ("storage.bucket", "storage.bucket_lock", "storage.bucket_workdir")
    assert not {f"launch.{name}" for name in rest} & loaded
