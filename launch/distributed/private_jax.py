"""The names of JAX's private modules that we use, but for those of `launch.cpu.lowerings`.

- `jax._src.clusters`: what `jax.distributed.initialize` calls to find the coordinator on
  Cloud TPU, Slurm, Open MPI and Kubernetes. We need the address earlier, because our
  processes meet before JAX connects them (`launch.distributed.startup_barrier`).
- `jax._src.distributed`: the client of the coordination service, which has a key-value
  store. JAX has no public name for it.

Tested with JAX 0.10 to 0.12.
"""

from typing import Any

from jax._src import clusters, distributed


def detect_cluster(seconds: float) -> tuple[str | None, int | None, int | None, list[int] | None]:
    """Finds the cluster that this process belongs to.

    Args:
      seconds: how long to wait for the address of the coordinator.

    Returns:
      The coordinator's HOST:PORT, how many processes there are, the number of this one, and
      the devices that it uses (None: all). The first three are None outside of a cluster.
    """
    return clusters.ClusterEnv.auto_detect_unset_distributed_params(
        coordinator_address=None,
        num_processes=None,
        process_id=None,
        local_device_ids=None,
        cluster_detection_method=None,
        initialization_timeout=int(seconds),
    )


def coordination_service() -> tuple[Any, int, int]:
    """The client of the coordination service that `jax.distributed.initialize` connected.

    Returns:
      The client, the number of this process, and how many processes there are.
    """
    state = distributed.global_state
    return state.client, state.process_id, state.num_processes
