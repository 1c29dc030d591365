"""Plans of a small folder on a machine that is made up."""

from pathlib import Path

from launch.config import loading, planned
from launch.planning import timing

SEGMENT = str(Path(__file__).parents[3] / "configs" / "segment.py")
TOOK = timing.Timing(step=0.1, drawing=0.5, compiling=5.0, memory=100 * 2**20)


def plan(root, *flags, variant=""):
    """The planned config of `root`, the fixture."""
    spec = f"{SEGMENT}:{variant}" if variant else SEGMENT
    config = loading.override(loading.load(spec), [f"--config.data.path={root}", *flags])
    return planned.filled(config, planned.values(config))
