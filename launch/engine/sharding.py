"""The mesh of devices, and how states and batches are sharded over it."""

import os
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from launch import storage
from launch.config.errors import UserError
from launch.cpu import heap, lowerings

# Leaves smaller than this stay whole: sharding them costs more than it saves.
MIN_SHARDED_SIZE = 2**12
# XLA's flags, unless the environment names them: 512-bit vectors on CPUs that have them (3 % more
# steps/s of an MLP VAE), and on GPUs kernels that add in one order. Without it two runs on an H100
# ended with other bits in all nine families, and so would a run that is resumed.
FLAGS = {"xla_cpu_prefer_vector_width": "512", "xla_gpu_deterministic_ops": "true"}


def set_up_jax() -> None:
    """Prepares JAX; call before anything asks for its devices.

    Turns the compilation cache on, so that a restart does not compile again, and sets `FLAGS`.
    What the environment says of these flags, of the cache's folder and of its entries stays.
    With simulated devices the cache is off. Programs for CPUs get the convolutions of
    `launch.cpu`.
    """
    heap.keep_freed_memory()
    lowerings.install()
    flags = os.environ.get("XLA_FLAGS", "")
    added = [f"--{name}={value}" for name, value in FLAGS.items() if name not in flags]
    os.environ["XLA_FLAGS"] = " ".join([*flags.split(), *added])
    settings = {
        "jax_compilation_cache_dir": str(storage.cache_dir() / "jax"),
        "jax_persistent_cache_min_compile_time_secs": 0.1,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    for name, value in settings.items():
        if not os.environ.get(name.upper()):  # the user's own
            jax.config.update(name, value)
    count = jax.config.jax_num_cpu_devices
    if count > 1 or "xla_force_host_platform_device_count" in flags:
        # Simulated devices share the threads of one process: programs that wait for each
        # other could occupy all threads, and none would end.
        jax.config.update("jax_cpu_enable_async_dispatch", False)
        os.environ.setdefault("PJRT_NPROC", str(max(64, 4 * count)))  # threads
        # XLA does not save the order of a CPU program's collectives: devices that run a loaded
        # program can begin them in different orders, wait for each other for 40 s, and abort.
        jax.config.update("jax_enable_compilation_cache", False)


def make_mesh(data: int, fsdp: int, local: bool = False) -> Mesh:
    """A mesh with the axes data and fsdp over the first devices.

    Args:
      data: devices along the axis data; -1 for all that are left.
      fsdp: devices along the axis fsdp.
      local: whether to take the devices of this process alone.

    Raises:
      UserError: there are fewer devices.
    """
    # By process, so that the rows of one process lie side by side in the global batch.
    known = jax.local_devices() if local else jax.devices()
    devices = sorted(known, key=lambda device: (device.process_index, device.id))
    if fsdp < 1 or data == 0 or data < -1:
        raise UserError(f"config.mesh: data={data}, fsdp={fsdp}; use positive sizes, or data=-1")
    if data == -1:
        data = max(1, len(devices) // fsdp)
    if data * fsdp > len(devices):
        raise UserError(
            f"config.mesh: data={data} x fsdp={fsdp} needs {data * fsdp} devices; "
            f"there are {len(devices)} ({devices[0].platform})"
        )
    if data * fsdp < len(devices) and jax.process_count() > 1 and not local:
        raise UserError(
            f"config.mesh: data={data} x fsdp={fsdp} leaves {len(devices) - data * fsdp} of "
            f"{len(devices)} devices idle, and with several processes each must take part"
        )
    used = np.array(devices[: data * fsdp]).reshape(data, fsdp)
    # Auto axes: the compiler lays out what lies between inputs and outputs.
    return Mesh(used, ("data", "fsdp"), axis_types=(jax.sharding.AxisType.Auto,) * 2)


def check_batch(batch_size: int, accumulate: int, mesh: Mesh) -> None:
    """Refuses a batch that the devices cannot share evenly.

    Args:
      batch_size: of the global batch.
      accumulate: micro-batches of a batch.
      mesh: the devices.

    Raises:
      UserError: names a batch size that would do.
    """
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


def warm_up_collectives(mesh: Mesh, processes: int) -> None:
    """Opens the connections between the devices of several processes; one has none.

    Without this they open at the first step. One process may reach it long after another,
    as its compilation takes longer, and a process that waits gives up after half a minute.
    """
    for axes in (("data", "fsdp"), ("data",), ("fsdp",)) if processes > 1 else ():
        spread = NamedSharding(mesh, P(axes))
        parts = int(np.prod([mesh.shape[axis] for axis in axes]))
        ones = jax.jit(lambda count=parts: jax.numpy.ones(count), out_shardings=spread)()
        jax.block_until_ready(jax.jit(jax.numpy.sum, out_shardings=replicated(mesh))(ones))


def describe(mesh: Mesh, processes: int = 1) -> str:
    """The devices of a mesh, for a line to the user: "8 x cpu (data 4, fsdp 2)"."""
    axes = ", ".join(f"{name} {size}" for name, size in mesh.shape.items() if size > 1)
    kind = mesh.devices.flat[0].device_kind
    hosts = f", {processes} processes" if processes > 1 else ""
    return f"{mesh.size} x {kind}" + (f" ({axes})" if axes else "") + hosts


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The sharding of a batch: its rows are spread over all devices."""
    return NamedSharding(mesh, P(("data", "fsdp")))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding with a copy on every device."""
    return NamedSharding(mesh, P())


def state_sharding(mesh: Mesh, state: Any) -> Any:
    """The sharding of a state: large leaves are split over fsdp, all others replicated.

    Args:
      mesh: the devices.
      state: pytree of arrays or ShapeDtypeStructs.

    Returns:
      A pytree of shardings: a leaf is split along its largest axis that fsdp divides.
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
    """The number of this process and how many there are, which decide its rows of a batch."""
    return jax.process_index(), jax.process_count()


def own_rows(batch: Any, mesh: Mesh) -> Any:
    """This process's rows of a global batch: all, where no other process has devices in a mesh.

    Args:
      batch: pytree of arrays [B, ...]; B is a multiple of the devices.
      mesh: the devices.
    """
    process, processes = process_place() if mesh.is_multi_process else (0, 1)

    def cut(leaf):
        rows = len(leaf) // processes
        return leaf[process * rows : (process + 1) * rows]

    return jax.tree.map(cut, batch)


def device_put(batch: Any, sharding: NamedSharding) -> Any:
    """Puts this process's rows of a global batch on the devices.

    Args:
      batch: pytree of numpy arrays.
      sharding: of the global arrays.
    """
    if sharding.is_fully_addressable:  # no other process has devices in it
        return jax.device_put(batch, sharding)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)
