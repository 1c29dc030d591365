"""Rows of docs/results.md from the results of pieces."""

from collections.abc import Callable, Mapping

import numpy as np

from launch.benchmarks.measuring import work
from launch.benchmarks.measuring.plan import Piece

Results = Mapping[Piece, dict]
DRY = "dry run, no result"
CHECKS = {
    "losses": "losses of the first steps, against the CPU",
    "audit": "audit",
    "repeat": "two runs, each compiled anew",
}
SPEED: dict[str, Callable[[dict], str]] = {
    "bare, steps/s": lambda x: _number(x, "bare_steps_per_second"),
    "loop, steps/s": lambda x: _number(x, "loop_steps_per_second"),
    "loop : bare": lambda x: _number(x, "loop_to_bare"),
    "data wait": lambda x: _share(x, "data_wait"),
    "device busy": lambda x: _share(x, "device_busy_share"),
    "images/s": lambda x: _number(x, "loop_images_per_second"),
    "GFLOP a step": lambda x: _number(x, "gflop_per_step"),
    "MFU": lambda x: _share(x, "model_flops_utilisation"),
    "peak memory, MiB": lambda x: _number(x, "peak_memory_mib"),
    "compilation, s": lambda x: _number(x, "compile_seconds"),
}


def tables(results: Results, card: str, versions: Mapping[str, str], dry: bool) -> str:
    """All tables, in Markdown.

    Args:
      results: {piece: its result}, in the order of the rows.
      card: how many devices of which kind.
      versions: {package: version}.
      dry: whether the results are those of a dry run; then every row says so.

    Returns:
      Lines of Markdown; "" if there are no results.
    """
    parts = [_correctness(results), _speed(results), _runs(results), _gan_losses(results)]
    parts = [list(part) for part in parts if part]
    if not parts:
        return ""
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    title = f"## {'DRY RUN, NO RESULTS: ' if dry else ''}{card}, {packages}"
    if dry:
        for part in parts:
            part[2:] = [f"| {DRY}: {line.removeprefix('| ')}" for line in part[2:]]
    return "\n\n".join([title, *("\n".join(part) for part in parts)])


def _table(titles, rows):
    line = lambda cells: f"| {' | '.join(cells)} |"
    return [line(titles), "|" + "---|" * len(titles), *map(line, rows)] if rows else []


def _of(results, *jobs):
    return [(piece, result) for piece, result in results.items() if piece.job in jobs]


def _config(piece):
    return f"`{piece.config.removeprefix('configs/')}`"


def _correctness(results):
    cells = lambda piece, result: (CHECKS[piece.job], _config(piece), _outcome(piece, result))
    return _table(
        ("check", "config", "result"),
        [cells(piece, result) for piece, result in _of(results, *CHECKS)],
    )


def _outcome(piece, result):
    """The result of a check, in words."""
    if piece.job == "losses":
        words = "within" if result["passed"] else "**NOT** within"
        return (
            f"relative difference {result['first']:.1e} at the first step, at most "
            f"{result['largest']:.1e} in {result['steps']} steps, {words} "
            f"{work.TOLERANCE_FIRST:.0e} and {work.TOLERANCE:.0e}; products in full float32"
        )
    if piece.job == "audit":
        counts = ", ".join(f"{count} {outcome}" for outcome, count in result["counts"].items())
        return "; ".join((f"{counts}; products in full float32", *result["failures"]))
    bits = "the same bits" if result["passed"] else "**other bits**"
    return f"{bits} after {result['steps']} steps"


def _speed(results):
    rows = [
        (
            _config(piece)
            + (", evaluated and saved more often" if piece.full else "")
            + (f", `{piece.flags}`" if piece.flags else ""),
            *(show(result) for show in SPEED.values()),
        )
        for piece, result in _of(results, "speed")
    ]
    return _table(("config", *SPEED), rows)


def _runs(results):
    rows = [
        (
            f"{_config(piece)}, {piece.title}",
            ", ".join(f"{name} **{_number(result, name)}**" for name in piece.metrics),
            piece.aim,
            f"{', '.join(result['trained_on'])}; {result['training_seconds'] / 60:.0f} min "
            f"in {result['parts']} parts" + _steps(piece, result),
        )
        for piece, result in _of(results, "train")
    ]
    return _table(("run", "result", "aim", "trained on, time"), rows)


def _steps(piece, result):
    """The steps of a run that the clock has ended."""
    return f", {result['step']:,} steps" if piece.minutes and "step" in result else ""


def _gan_losses(results):
    """The FID of each GAN loss over the seeds that are done; nothing for fewer than two seeds."""
    found: dict[str, list[float]] = {}
    for piece, result in _of(results, "train"):
        if "fid" in piece.metrics and isinstance(result.get("fid"), float):
            found.setdefault(_config(piece), []).append(result["fid"])
    rows = [
        (config, str(len(fids)), f"{np.mean(fids):.3g}", f"{min(fids):.3g} to {max(fids):.3g}")
        for config, fids in found.items()
        if len(fids) > 1
    ]
    return _table(("GAN loss", "seeds", "FID, mean", "FID, range"), rows)


def _number(result, name):
    value = result.get(name)
    return f"{value:,.4g}" if isinstance(value, int | float) else "not known"


def _share(result, name):
    value = result.get(name)
    return f"{100 * value:.2f} %" if isinstance(value, int | float) else "not known"
