"""What a step needs against what is free: control groups, limits, messages."""

import resource
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from launch.config.errors import UserError
from launch.engine import memory

GIB = 2**30


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """(files) -> the free memory of a machine with these files, without a limit by ulimit."""
    unlimited = (resource.RLIM_INFINITY,) * 2
    monkeypatch.setattr(resource, "getrlimit", lambda kind: unlimited)

    def free(**files):
        for name, content in files.items():
            path = tmp_path / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return memory.free_on_host(tmp_path)

    return free


def test_a_machine_that_says_nothing_has_no_limits(machine):
    assert machine() == {}


def test_available_memory_and_swap(machine):
    meminfo = "MemTotal: 9 kB\nMemAvailable:   3 kB\nSwapFree: 2 kB\nHugePages_Free: 7\n"
    assert machine(proc__meminfo=meminfo) == {"on this machine": 5 * 1024}
    assert machine(proc__meminfo="MemAvailable: 4 kB\n") == {"on this machine": 4096}


def limits(folder, most, used, idle):
    stat = f"anon 5\ninactive_file {idle}\n"
    return {
        f"{folder}__memory.max": f"{most}\n",
        f"{folder}__memory.current": f"{used}\n",
        f"{folder}__memory.stat": stat,
    }


def test_the_smallest_control_group_counts(machine):
    outer, inner = "sys__fs__cgroup", "sys__fs__cgroup__jobs__mine"
    files = {"proc__self__cgroup": "0::/jobs/mine\n"} | limits(outer, "max", 9, 0)
    assert machine(**files) == {}
    (left,) = machine(**files, **limits(inner, 100, 70, 10)).values()
    assert left == 40
    (left,) = machine(**files, **limits("sys__fs__cgroup__jobs", 90, 85, 0)).values()
    assert left == 5
    (left,) = machine(**limits("sys__fs__cgroup__jobs", 90, 95, 0)).values()
    assert left == 0


def test_control_groups_of_the_first_version(machine):
    folder = "sys__fs__cgroup__memory"
    (left,) = machine(
        **{
            "proc__self__cgroup": "5:cpu,cpuacct:/x\n4:memory:/x\n",
            f"{folder}__memory.limit_in_bytes": "100",
            f"{folder}__memory.usage_in_bytes": "30",
            f"{folder}__memory.stat": "total_inactive_file 7",
        }
    ).values()
    assert left == 77


def test_the_limit_of_the_shell(machine, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (9000, 9000))
    found = machine(proc__self__status="Name:\tpython\nVmSize:\t   2 kB\n")
    assert found == {"below the limit of `ulimit -v`": 9000 - 2048}


def program(**sizes):
    """A compiled program that needs so many bytes."""
    zero = dict.fromkeys(("temp", "output", "alias", "argument"), 0)
    analysis = {f"{name}_size_in_bytes": size for name, size in (zero | sizes).items()}
    return SimpleNamespace(
        memory_analysis=lambda: SimpleNamespace(**analysis),
        input_shardings=[jax.sharding.SingleDeviceSharding(jax.devices()[0])],
    )


def test_a_program_is_refused_where_it_does_not_fit(monkeypatch):
    free = {"here": 3 * GIB, "there": 2 * GIB}
    monkeypatch.setattr(memory, "free_memory", lambda: free)
    memory.check(program(temp=GIB, output=3 * GIB, alias=2 * GIB, argument=9 * GIB), str, "it")
    with pytest.raises(
        UserError,
        match=r"before it begins: it needs 2\.5 GiB beside .* 2\.0 GiB are free there\. Do less\.$",
    ):
        memory.check(
            program(temp=1.5 * GIB, output=3 * GIB, alias=2 * GIB), lambda: "Do less.", "it"
        )
    monkeypatch.setattr(memory, "free_memory", dict)
    memory.check(program(temp=10**15), str, "")  # nobody knows what is free


@pytest.mark.parametrize(("free", "stops"), [(4 * GIB, 0), (2 * GIB, 1)])
def test_freed_memory_is_kept_only_where_there_is_room(monkeypatch, free, stops):
    stopped = []
    monkeypatch.setattr(memory.heap, "stop_keeping", lambda: stopped.append(True))
    monkeypatch.setattr(memory, "free_memory", lambda: {"here": free, "there": 9 * GIB})
    memory.check(program(temp=GIB), str, "")
    assert len(stopped) == stops


def test_devices_of_one_machine_share_its_memory(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: {"here": 7 * GIB})
    step = program(temp=GIB)
    memory.check(step, str, "")
    mesh = jax.make_mesh((8,), ("data",))
    step.input_shardings = [jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())]
    with pytest.raises(UserError, match=r"it needs 8\.0 GiB"):
        memory.check(step, str, "")


def test_accelerators_count_for_themselves(monkeypatch):
    class Device(SimpleNamespace):
        def __str__(self):
            return f"cuda:{self.number}"

    def device(number, limit, used):
        statistics = {"bytes_limit": limit, "bytes_in_use": used} if limit else None
        return Device(number=number, platform="gpu", memory_stats=lambda: statistics)

    devices = [device(0, 9 * GIB, GIB), device(1, 9 * GIB, 4 * GIB), device(2, 0, 0)]
    monkeypatch.setattr(jax, "local_devices", lambda: devices)
    memory.check(program(temp=5 * GIB), str, "")
    with pytest.raises(UserError, match=r"needs 6\.0 GiB .* 5\.0 GiB are free on cuda:1"):
        memory.check(program(temp=6 * GIB), str, "")


def test_a_checked_step_compiles_and_checks_each_form_once(monkeypatch):
    compilations, checks = [], []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, seconds, **rest: compilations.append(name) if "backend_compile" in name else 0
    )
    monkeypatch.setattr(memory, "check", lambda compiled, *words: checks.append(words))
    train = jax.jit(lambda state, feed, step: (state * 3 + feed["x"], step), donate_argnums=0)
    step = memory.CheckedStep(train, train.lower, len, "it")
    state, feed = jnp.arange(5.0), {"x": jnp.ones(5)}
    compilations.clear()
    state, _ = step(state, feed, 0)
    state, number = step(state, feed, 7)
    assert (len(compilations), checks, int(number)) == (1, [(len, "it")], 7)
    np.testing.assert_array_equal(state, np.arange(5.0) * 9 + 4)
    step(state, {"x": np.ones(1, np.float32)}, 0)  # another form is another program
    assert (len(compilations), len(checks)) == (2, 2)


def test_memory_that_runs_out_all_the_same_is_one_message():
    def train(state, feed, step):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nx")

    lower = jax.jit(lambda state, feed, step: state).lower
    step = memory.CheckedStep(train, lower, lambda: "Do less.", "training")
    with pytest.raises(
        UserError, match=r"\(Out of memory allocating 9 bytes\.\), in training\. Do less"
    ):
        step(1.0, {}, 1)
    step = memory.CheckedStep(lambda *rest: 1 / 0, lower, str, "")
    with pytest.raises(ZeroDivisionError):
        step(1.0, {}, 1)
