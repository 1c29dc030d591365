"""Devices: the mesh, and how states and batches are laid over it."""

import os
from pathlib import Path

import jax
import numpy as np
from jax._src import compiler  # which lets one process alone write to the cache
from jax._src import distributed as service
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from launch import storage
from launch.config.errors import UserError

# Leaves smaller than this stay whole: sharding them costs more than it saves.
MIN_SHARDED_SIZE = 2**12


def setup() -> None:
    """Prepares JAX; call before anything asks for its devices.

    Turns the compilation cache on, so that a restart does not compile again, and lets
    CPUs use 512-bit vectors where they have them: 3 % more steps/s of an MLP VAE.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_cpu_prefer_vector_width" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_prefer_vector_width=512".strip()
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(storage.cache_dir() / "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    count = jax.config.jax_num_cpu_devices
    if count > 1 or "xla_force_host_platform_device_count" in flags:
        # Simulated devices share the threads of one process: programs under way that wait
        # for each other can hold all of them, and none would ever end.
        jax.config.update("jax_cpu_enable_async_dispatch", False)


def keep_compiled(hosts: list[str], workdir: Path) -> None:
    """Has each of several processes find at its next start what it compiles now.

    JAX lets process 0 alone write to the compilation cache. The others find its entries
    if the cache is shared, so with several hosts it is the workdir's, unless
    JAX_COMPILATION_CACHE_DIR says otherwise. On CPUs even that does not help: the key of an
    entry depends on the process, so each writes its own.

    Args:
      hosts: of the processes.
      workdir: the run's folder.
    """
    several = len(set(hosts)) > 1 and not storage.is_bucket(workdir)
    if several and not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(workdir / "compiled"))
    if jax.default_backend() != "cpu" or not hasattr(compiler, "_cache_write"):
        return
    write, state = compiler._cache_write, service.global_state

    def write_own(*arguments):
        place, state.process_id = state.process_id, 0
        try:
            write(*arguments)
        finally:
            state.process_id = place

    compiler._cache_write = write_own


def make_mesh(config) -> Mesh:
    """The mesh of `config.mesh`: axes data and fsdp over the first devices.

    Raises:
      UserError: more devices asked for than there are.
    """
    # By process, so that the rows of one process lie side by side in the global batch.
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    data, fsdp = config.mesh.data, config.mesh.fsdp
    if fsdp < 1 or data == 0 or data < -1:
        raise UserError(f"config.mesh: data={data}, fsdp={fsdp}; use positive sizes, or data=-1")
    if data == -1:
        data = max(1, len(devices) // fsdp)
    if data * fsdp > len(devices):
        raise UserError(
            f"config.mesh: data={data} x fsdp={fsdp} needs {data * fsdp} devices; "
            f"there are {len(devices)} ({devices[0].platform})"
        )
    if data * fsdp < len(devices) and jax.process_count() > 1:
        raise UserError(
            f"config.mesh: data={data} x fsdp={fsdp} leaves {len(devices) - data * fsdp} of "
            f"{len(devices)} devices idle, and with several processes each must take part"
        )
    used = np.array(devices[: data * fsdp]).reshape(data, fsdp)
    # Auto axes: the compiler lays out what lies between inputs and outputs.
    return Mesh(used, ("data", "fsdp"), axis_types=(jax.sharding.AxisType.Auto,) * 2)


def check_batch(batch_size: int, accumulate: int, mesh: Mesh) -> None:
    """Refuses a batch that the devices cannot share evenly."""
    if batch_size % (mesh.size * accumulate):
        parts = f"{mesh.size} devices" + (
            f" x {accumulate} micro-batches" if accumulate > 1 else ""
        )
        raise UserError(
            f"config.data.batch_size={batch_size} is not divisible by {parts}; "
            f"use a multiple of {mesh.size * accumulate}, or fewer devices by config.mesh"
        )


def round_up(rows: int, mesh: Mesh) -> int:
    """The smallest number of rows >= `rows` that the devices of a mesh share evenly."""
    return -(-rows // mesh.size) * mesh.size


def warm_up_collectives(mesh: Mesh) -> None:
    """Has the processes' devices open their connections to each other now.

    They would at the first step, which one process may reach long after another, as its
    compilation takes longer; those that wait give up after half a minute.
    """
    for axes in (("data", "fsdp"), ("data",), ("fsdp",)):
        spread = NamedSharding(mesh, P(axes))
        parts = int(np.prod([mesh.shape[axis] for axis in axes]))
        ones = jax.jit(lambda count=parts: jax.numpy.ones(count), out_shardings=spread)()
        jax.block_until_ready(jax.jit(jax.numpy.sum, out_shardings=replicated(mesh))(ones))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows spread over all devices."""
    return NamedSharding(mesh, P(("data", "fsdp")))


def replicated(mesh: Mesh) -> NamedSharding:
    """A copy on every device."""
    return NamedSharding(mesh, P())


def state_sharding(mesh: Mesh, state):
    """A sharding per leaf: the largest axis that fsdp divides, else replicated.

    Args:
      state: pytree of arrays or ShapeDtypeStructs.
    """
    shards = mesh.shape["fsdp"]

    def spec(leaf):
        axes = [axis for axis, size in enumerate(leaf.shape) if size % shards == 0]
        if shards == 1 or not axes or np.prod(leaf.shape) < MIN_SHARDED_SIZE:
            return NamedSharding(mesh, P())
        largest = max(axes, key=lambda axis: leaf.shape[axis])
        return NamedSharding(mesh, P(*(None,) * largest, "fsdp"))

    return jax.tree.map(spec, state)


def process_place() -> tuple[int, int]:
    """Which process this is, out of how many: whose rows of a batch it holds."""
    return jax.process_index(), jax.process_count()


def device_put(batch, sharding):
    """Places this process's rows of a global batch on the devices."""
    if jax.process_count() == 1:
        return jax.device_put(batch, sharding)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)
