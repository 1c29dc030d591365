"""Plots of a run as PNG: curves of its metrics, and bars of metrics by class or other part."""

import math
from pathlib import Path

from launch.reporting import metrics_file
from launch.storage.atomic import replacing

# Of the progress line; these do not measure the model.
LEFT_OUT = ("step", "images_per_second", "data_wait")
COLUMNS = 3
MOST_BARS = 60
DECADES = 2.0  # a positive loss that spans more is drawn on a logarithmic axis
NATS, SCORE = "nats per image", "0 to 1"
UNITS = {
    **dict.fromkeys(("nll", "negative_elbo", "kl", "prior", "reconstruction", "diffusion"), NATS),
    "noise_std": "1 is right",
    **dict.fromkeys(("ap", "ap50", "ap75", "pq", "sq", "rq", "edge_f", "edge_threshold"), SCORE),
    **dict.fromkeys(("calibration_error", "codes_used", "class_coverage"), SCORE),
    **dict.fromkeys(("least_class_share", "most_class_share"), SCORE),
    **dict.fromkeys(("d_real", "d_fake", "gap"), "logit"),
    "bits_per_dim": "bits per dimension",
    "nll_bits_per_dim": "bits per dimension",
    "code_bits": "bits per code",
    "psnr": "dB",
    "hausdorff95": "pixels",
    "count_error": "objects per image",
    "distance": "pixel values in -1 to 1",
    "penalty": "squared gradient",
    "fid": "squared distance of features",
    "feature_variance": "ratio to that of real images",
    "learning_rate": "no unit",
}
# Of other metrics, by their last word: "mean_iou".
LAST_WORDS = {
    **dict.fromkeys(("iou", "dice", "accuracy", "f1", "precision", "recall"), SCORE),
    "loss": "loss",
}


def curves(path: Path, out: Path, best: str = "") -> None:
    """Draws every metric of a metrics.jsonl over the steps, a panel each.

    Args:
      path: the metrics.jsonl; metrics by part ("iou/wall") are left to `bars`.
      out: the PNG.
      best: `config.checkpoint.best`: the metric whose best step is marked, "-name" if larger
        is better; "" for none.
    """
    series = _series(path)
    if not series:
        return
    rows = -(-len(series) // COLUMNS)
    figure, axes = _figure(rows, min(COLUMNS, len(series)), (4.0, 2.6))
    for axis, (name, splits) in zip(axes, series.items(), strict=False):
        for split, (steps, values) in splits.items():
            axis.plot(steps, values, label=split, marker="." if len(steps) < 20 else "", lw=1.2)
        axis.set_title(name.replace("_", " ").replace("iou", "IoU"), fontsize=10)
        axis.set_xlabel("step", fontsize=8)
        axis.set_ylabel(unit(name), fontsize=8)
        axis.xaxis.get_major_locator().set_params(integer=True, nbins=5)
        axis.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.3)
        if "loss" in name and _decades(splits) > DECADES:
            axis.set_yscale("log")
    axes[0].legend(fontsize=8)
    if (name := best.removeprefix("-")) in series:
        _mark_best(
            axes[: len(series)],
            list(series).index(name),
            series[name],
            max if name != best else min,
        )
    for axis in axes[len(series) :]:
        axis.set_visible(False)
    _save(figure, out)


def unit(name: str) -> str:
    """What a metric is measured in, for its axis; "" for one that no task of this package has."""
    last = name.partition("_t0.")[0].rpartition("_")[2]  # "loss_t0.3" of a flow is a loss
    return UNITS.get(name, LAST_WORDS.get(last, ""))


def bars(metrics: dict[str, float], out: Path) -> None:
    """Draws the metrics that are given by part, such as "iou/wall" or "kl/0", as bars.

    Args:
      metrics: name -> value; a part without a score has a bar of no length.
      out: the PNG; not written where no metric is by part.
    """
    groups = {}
    for name, value in metrics.items():
        group, slash, member = name.partition("/")
        if slash:
            groups.setdefault(group, {})[member] = 0.0 if value != value else value
    if not groups:
        return
    tallest = max(min(len(members), MOST_BARS) for members in groups.values())
    figure, axes = _figure(len(groups), 1, (6.0, 0.8 + 0.22 * tallest))
    for axis, (group, members) in zip(axes, groups.items(), strict=True):
        names, values = list(members)[:MOST_BARS], list(members.values())[:MOST_BARS]
        drawn = axis.barh(names, values)
        axis.bar_label(drawn, fmt="%.3f", fontsize=7, padding=2)
        axis.invert_yaxis()
        axis.set_xlim(0, max(1.0, *values) * 1.12)
        axis.set_title(group, fontsize=9)
        axis.tick_params(labelsize=7)
    _save(figure, out)


def _series(path):
    """{metric: {split: (steps, values)}} of a metrics.jsonl."""
    series = {}
    for line in metrics_file.read(path).lines:
        for name, value in line.items():
            if name in LEFT_OUT or "/" in name or not isinstance(value, int | float):
                continue
            steps, values = series.setdefault(name, {}).setdefault(line["split"], ([], []))
            steps.append(line["step"])
            values.append(value)
    return series


def _decades(splits):
    """How many powers of ten lie between the values; 0 where one is not positive."""
    values = [value for _, values in splits.values() for value in values]
    return math.log10(max(values) / min(values)) if min(values) > 0 else 0.0


def _mark_best(axes, place, splits, pick):
    """Marks the best of all evaluations by a star in its panel, and its step in all panels."""
    points = [
        (value, step)
        for split, (steps, values) in splits.items()
        if split != "train"
        for step, value in zip(steps, values, strict=True)
    ]
    if not points:
        return
    value = pick(value for value, _ in points)
    step = min(step for other, step in points if other == value)
    for axis in axes:
        axis.axvline(step, color="black", ls=":", lw=1.0)
    label = f"best {value:.4g} at step {step:,}"
    axes[place].plot([step], [value], "k*", ms=9, label=label)
    axes[place].legend(fontsize=8)


def _figure(rows, columns, size):
    """A figure that no window and no global state belongs to, and its axes."""
    from matplotlib.figure import Figure  # 0.4 s that only those who draw wait for

    figure = Figure((size[0] * columns, size[1] * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False).ravel()


def _save(figure, out):
    with replacing(out) as working:
        figure.savefig(working, format="png", dpi=110)
