"""The examples whose figures an evaluation shows: those with the worst, middle and best scores."""

from collections.abc import Callable

import numpy as np
from jax.sharding import Mesh

from launch.data import batches, cache
from launch.data.sources import DAMAGED, Split
from launch.engine import sharding
from launch.reporting import figures
from launch.reporting.figures import Chosen


def choose(
    data: batches.Data, table: np.ndarray, score: str, mesh: Mesh
) -> tuple[list[Chosen], dict[str, np.ndarray]]:
    """Chooses examples by their scores.

    Args:
      data: the evaluation split.
      table: float [N, 2], row i of example i: its score, larger is better, and 1; 0 and 0 of an
        example without a score.
      score: the name of the score, such as "mean_iou".
      mesh: the devices.

    Returns:
      The examples, and this process's rows of a batch of them.
    """
    chosen = figures.choose(table, data.split.size, score)
    index = np.array([one.index for one in chosen])
    return chosen, rows_at(data, index, sharding.round_up(len(index), mesh))


def draw(
    images: dict[str, np.ndarray],
    chosen: list[Chosen],
    data: batches.Data,
    metrics: dict[str, float],
    heading: str,
) -> dict[str, np.ndarray]:
    """Joins the parts of figures, "NAME/COLUMN", to one picture each.

    Args:
      images: what the task's `figures` gave.
      chosen: the example of each row; [] for the first ones of the split.
      data: the evaluation split.
      metrics: of the evaluation; those by class, such as "iou/wall", name the classes.
      heading: of the pictures.

    Returns:
      {name: images [N, H, W, C], or one picture [1, H, W, 3]}; {} on processes that write none.
    """
    if sharding.process_place()[0]:
        return {}
    rows = min(data.split.size, *map(len, images.values()))
    chosen = chosen[:rows] or [Chosen(index) for index in range(rows)]
    names, title_of = class_names(metrics), titles(data.split)
    if score := chosen[0].score.rpartition(" ")[0]:
        heading += f": the worst, typical and best of {data.split.size:,} examples by {score}"
    about = {"classes": names, "colours": data.reading.get("colours", ())}
    return figures.join(images, chosen, heading=heading, title_of=title_of, **about)


def rows_at(data: batches.Data, index: np.ndarray, rows: int) -> dict[str, np.ndarray]:
    """This process's rows of a batch of certain examples.

    Args:
      data: the split.
      index: integers [n], the examples.
      rows: B >= n, of the global batch; rows after the n-th repeat the last example.

    Returns:
      {key: [B / processes, ...]} with `index` and `mask`, False on rows that only pad.
    """
    process, processes = sharding.process_place()
    places = np.arange(rows).reshape(processes, -1)[process]
    mask, index = places < len(index), index[np.minimum(places, len(index) - 1)].astype(np.int32)
    if data.arrays is None:
        batch = cache.read_rows(data.split, index)
        batch.pop(DAMAGED, None)  # such an example has no score
    else:
        batch = {key: array[index] for key, array in data.arrays.items()}
    return batch | {"index": index, "mask": mask}


def class_names(metrics: dict[str, float]) -> list[str]:
    """The names of the classes, from the first group of metrics that is given by class."""
    names = [name.partition("/") for name in metrics if "/" in name]
    return [member for group, _, member in names if group == names[0][0]]


def titles(split: Split) -> Callable[[int], str]:
    """What gives the title of an example by its index: the name of its file, where it has one."""
    records = split.records
    while isinstance(inner := getattr(records, "split", None), Split):  # preprocessed, tolerant
        records = inner.records
    return getattr(records, "file_of", "example {:,}".format)
