import os
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from launch.config.errors import UserError
from launch.engine import sharding


def test_the_mesh_takes_what_is_asked_for_or_what_is_left():
    assert dict(sharding.make_mesh(2, 4).shape) == {"data": 2, "fsdp": 4}
    assert dict(sharding.make_mesh(-1, 2).shape) == {"data": 4, "fsdp": 2}
    assert dict(sharding.make_mesh(3, 1).shape) == {"data": 3, "fsdp": 1}
    places = [device.id for device in sharding.make_mesh(4, 2).devices.flat]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("data", "fsdp", "words"),
    [
        (9, 1, "data=9 x fsdp=1 needs 9 devices; there are 8"),
        (-1, 16, "needs 16 devices; there are 8"),
        (0, 1, "use positive sizes, or data=-1"),
        (-2, 1, "use positive sizes"),
        (1, 0, "use positive sizes"),
    ],
)
def test_a_mesh_that_the_devices_do_not_fill_is_refused(data, fsdp, words):
    with pytest.raises(UserError, match=words):
        sharding.make_mesh(data, fsdp)


def test_with_several_processes_no_device_may_be_idle(monkeypatch):
    monkeypatch.setattr(sharding.jax, "process_count", lambda: 2)
    assert sharding.make_mesh(4, 2).size == 8
    with pytest.raises(UserError, match="data=3 x fsdp=2 leaves 2 of 8 devices idle"):
        sharding.make_mesh(3, 2)


def test_rows_are_rounded_up_to_a_multiple_of_the_devices():
    mesh = sharding.make_mesh(2, 2)
    assert [sharding.round_up(rows, mesh) for rows in (1, 4, 5, 8)] == [4, 4, 8, 8]


def test_a_batch_must_divide_evenly():
    mesh = sharding.make_mesh(2, 2)
    sharding.check_batch(24, 3, mesh)
    with pytest.raises(UserError, match=r"by 4 devices x 3 micro.*a multiple of 12"):
        sharding.check_batch(20, 3, mesh)
    with pytest.raises(UserError, match=r"=6 is not divisible by 4 devices; use a multiple of 4"):
        sharding.check_batch(6, 1, mesh)


def test_large_leaves_are_split_along_their_largest_axis_that_divides():
    mesh = sharding.make_mesh(2, 4)
    shapes = {
        "small": (4, 8),
        "rows": (64, 64),
        "columns": (60, 128),
        "odd": (999, 63),
        "longest odd": (999, 64),
    }
    leaves = {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in shapes.items()}
    specs = {name: leaf.spec for name, leaf in sharding.state_sharding(mesh, leaves).items()}
    assert specs == {
        "small": P(),
        "rows": P("fsdp"),
        "columns": P(None, "fsdp"),
        "odd": P(),
        "longest odd": P(None, "fsdp"),
    }
    alone = sharding.state_sharding(sharding.make_mesh(8, 1), leaves)
    assert all(leaf.spec == P() for leaf in alone.values())


def test_a_leaf_of_the_least_size_is_split():
    mesh = sharding.make_mesh(1, 8)
    side = sharding.MIN_SHARDED_SIZE // 8
    for rows, spec in ((side, P("fsdp")), (side - 8, P())):
        leaf = jax.ShapeDtypeStruct((rows, 8), np.float32)
        assert sharding.state_sharding(mesh, leaf).spec == spec


def test_each_process_has_a_block_of_the_rows(monkeypatch):
    batch = {"index": np.arange(6), "image": np.arange(12).reshape(6, 2)}
    across = SimpleNamespace(is_multi_process=True)
    found = []
    for process in range(3):
        monkeypatch.setattr(sharding, "process_place", lambda process=process: (process, 3))
        found.append(sharding.own_rows(batch, across))
        # A mesh of this process's own devices takes all rows.
        whole = sharding.own_rows(batch, sharding.make_mesh(2, 1))
        np.testing.assert_array_equal(whole["image"], batch["image"])
    for key, rows in batch.items():
        np.testing.assert_array_equal(np.concatenate([part[key] for part in found]), rows)
        assert {len(part[key]) for part in found} == {2}


def test_a_mesh_of_one_process_may_leave_devices_idle(monkeypatch):
    monkeypatch.setattr(sharding.jax, "process_count", lambda: 2)
    monkeypatch.setattr(sharding.jax, "local_devices", lambda: jax.devices()[4:])
    mesh = sharding.make_mesh(2, 1, local=True)
    assert [device.id for device in mesh.devices.flat] == [4, 5]
    assert sharding.make_mesh(-1, 1, local=True).size == 4


def test_batches_are_spread_and_copies_are_whole():
    mesh = sharding.make_mesh(2, 4)
    x = np.arange(16.0).reshape(8, 2)
    spread = sharding.device_put(x, sharding.batch_sharding(mesh))
    assert [shard.data.shape for shard in spread.addressable_shards] == [(1, 2)] * 8
    np.testing.assert_array_equal(spread, x)
    whole = sharding.device_put(x, sharding.replicated(mesh))
    assert [shard.data.shape for shard in whole.addressable_shards] == [(8, 2)] * 8
    sharding.warm_up_collectives(mesh, 2)
    assert sharding.process_place() == (0, 1)


def test_jax_is_set_up_and_the_users_flags_stay(monkeypatch):
    updates = {}
    monkeypatch.setattr(jax.config, "update", updates.__setitem__)
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=/nowhere --xla_gpu_deterministic_ops=false")
    monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
    monkeypatch.delenv("PJRT_NPROC")
    sharding.set_up_jax()
    sharding.set_up_jax()
    first = "--xla_dump_to=/nowhere --xla_gpu_deterministic_ops=false"
    assert os.environ["XLA_FLAGS"] == f"{first} --xla_cpu_prefer_vector_width=512"
    assert updates == {
        "jax_persistent_cache_min_compile_time_secs": 0.1,
        "jax_persistent_cache_min_entry_size_bytes": -1,
        "jax_cpu_enable_async_dispatch": False,  # eight simulated devices
        "jax_enable_compilation_cache": False,
    }
    assert os.environ["PJRT_NPROC"] == "64"
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    sharding.set_up_jax()
    assert updates["jax_compilation_cache_dir"] == "/elsewhere/segen/jax"


def test_a_mesh_is_described_by_its_axes():
    assert sharding.describe(sharding.make_mesh(4, 2)) == "8 x cpu (data 4, fsdp 2)"
    assert sharding.describe(sharding.make_mesh(1, 1), 2) == "1 x cpu, 2 processes"
