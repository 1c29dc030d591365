"""The memory that a compiled step needs, compared with what there is before it first runs."""

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from launch.config.errors import UserError, describe_out_of_memory
from launch.cpu import heap

# The blocks of temporaries that a process holds, at most, where freed memory is kept: two of
# training, and one of an evaluation beside them.
KEPT_BLOCKS = 3


class CheckedStep:
    """A compiled function that is refused, before it first runs, if memory cannot hold it.

    It compiles once: the first call runs what the comparison compiled. Inputs of another
    form are compared again.

    Args:
      function: (state, feed, *rest) -> outputs, by `jit` or `pmap`; an attribute too.
      lower: of the same arguments, gives what `compile()` compiles for `function`.
      advice: () -> what lowers the need, for messages.
      name: what it is, for messages.
    """

    def __init__(self, function: Callable, lower: Callable, advice: Callable, name: str):
        self.function, self._lower, self._advice, self._name = function, lower, advice, name
        self._checked = set()

    def __call__(self, state: Any, feed: Any, *rest: Any) -> Any:
        """Runs the function.

        Raises:
          UserError: memory does not hold it; says what it needs, what is free, and what to do.
        """
        form = tuple((key, leaf.shape) for key, leaf in feed.items())
        try:
            if form not in self._checked:
                compiled = self._lower(state, feed, *rest).compile()
                check(compiled, self._advice, self._name)
                self._checked.add(form)
            return self.function(state, feed, *rest)
        except Exception as error:  # jaxlib's own class, of the first call or of a later one
            if problem := describe_out_of_memory(error):
                raise UserError(f"{problem}, in {self._name}. {self._advice()}") from error
            raise


def check(compiled: Any, advice: Callable[[], str], name: str) -> None:
    """Refuses a compiled program whose need of memory is larger than what is free.

    Args:
      compiled: a compiled program; its arguments are in memory already.
      advice: () -> what lowers the need, for the message.
      name: what the program is, for the message.

    Raises:
      UserError: says what it needs, what is free, and what to do.
    """
    analysis, devices = compiled.memory_analysis(), jax.local_devices()
    if analysis is None:
        return
    needed = beside_arguments(analysis)
    if devices[0].platform == "cpu":  # all devices share the memory of the machine
        heap.give_back()
        needed = needed * _local_devices(compiled, len(devices))
    free = free_memory()
    if devices[0].platform == "cpu" and KEPT_BLOCKS * needed > min(free.values(), default=0):
        heap.stop_keeping()
    place = min(free, key=free.get, default="")
    if place and needed > free[place]:
        raise UserError(
            f"out of memory before {name} begins: it needs {_gib(needed)} beside the state and "
            f"the batch, and {_gib(free[place])} are free {place}. {advice()}"
        )


def peak(compiled: Any) -> int:
    """The bytes that a compiled program takes on a device, its arguments included.

    Args:
      compiled: a compiled program.
    """
    analysis = compiled.memory_analysis()
    return analysis.argument_size_in_bytes + beside_arguments(analysis)


def beside_arguments(analysis: Any) -> int:
    """Bytes of temporaries, and of outputs that do not take the memory of donated arguments.

    Args:
      analysis: of a compiled program's memory.
    """
    outputs = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return analysis.temp_size_in_bytes + outputs


def free_memory() -> dict[str, float]:
    """The bytes that programs can still take: {the limit in words: bytes}.

    Empty where the system does not say, and infinite where a device does not.
    """
    devices = jax.local_devices()
    if devices[0].platform == "cpu":
        return free_on_host()
    return {f"on {device}": _free_on(device) for device in devices}


def free_on_host(root: Path = Path("/")) -> dict[str, int]:
    """The bytes that this process can still take, by each limit that holds for it.

    Args:
      root: the folder that holds proc/ and sys/.

    Returns:
      {the limit in words: bytes}; empty where the system does not say.
    """
    free = {}
    meminfo = _numbers(root / "proc/meminfo")
    if "MemAvailable" in meminfo:
        free["on this machine"] = 1024 * (meminfo["MemAvailable"] + meminfo.get("SwapFree", 0))
    for folder, limit, usage, cache in _control_groups(root):
        files = [folder / limit, folder / usage]
        if all(file.is_file() for file in files):
            most, used = (file.read_text().strip() for file in files)
            if most != "max":
                idle = _numbers(folder / "memory.stat").get(cache, 0)  # of files, given up at need
                left = int(most) - int(used) + idle
                name = "in the control group of this process (a container or a job)"
                free[name] = min(left, free.get(name, left))
    most, size = resource.getrlimit(resource.RLIMIT_AS)[0], _numbers(root / "proc/self/status")
    if most != resource.RLIM_INFINITY and "VmSize" in size:
        free["below the limit of `ulimit -v`"] = most - 1024 * size["VmSize"]
    return {name: max(0, left) for name, left in free.items()}


def _local_devices(compiled, count):
    """How many devices of this process run a program."""
    shardings = jax.tree.leaves(compiled.input_shardings)
    used = {device for sharding in shardings for device in sharding.device_set}
    return len(used & set(jax.local_devices())) or count


def _free_on(device):
    """Bytes that are free on a device; infinity where it does not say."""
    statistics = device.memory_stats() or {}
    if "bytes_limit" not in statistics:
        return float("inf")
    return statistics["bytes_limit"] - statistics["bytes_in_use"]


def _control_groups(root):
    """The folders of this process's control groups up to their root, with their file names."""
    path, system = root / "proc/self/cgroup", root / "sys/fs/cgroup"
    for line in path.read_text().splitlines() if path.is_file() else ():
        _, controllers, place = line.split(":", 2)
        if not controllers:
            top, names = system, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            top = system / "memory"
        else:
            continue
        inner = top / place.strip("/")
        for folder in (inner, *inner.parents):
            if folder == top or top in folder.parents:
                yield folder, *names


def _numbers(path):
    """{name: number} of a file with lines such as "MemFree: 12 kB"."""
    lines = path.read_text().splitlines() if path.is_file() else []
    pairs = (line.replace(":", " ").split() for line in lines)
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) > 1 and pair[1].isdecimal()}


def _gib(size):
    return f"{size / 2**30:.1f} GiB"
