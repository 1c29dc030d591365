"""Counts the lines that a reader of one run has to know: the modules that the run loads.

python -m tests.tools.reading --config=configs/vae.py --max-lines=4800 --max-files=34

Trains the config for two evaluations in a process of its own, twice: the first process
prepares the data, the second is counted. Other arguments go to `launch.train`. A package's
`__init__.py` that holds nothing but a docstring counts as lines, not as a file.
"""

import argparse
import ast
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from launch.config import loading

ROOT = Path(__file__).resolve().parents[2]
RUN = ("launch/train.py", "launch/engine/training.py", "launch/engine/loop.py")
# Trains by the arguments of `launch.train`, then prints every file that was loaded.
# The config with short intervals; flags for them would load the module of flags.
SHORT = """
import importlib.util
spec = importlib.util.spec_from_file_location("whole", {path!r})
whole = importlib.util.module_from_spec(spec)
spec.loader.exec_module(whole)
def get_config(variant=""):
    config = whole.get_config({variant!r})
    for section, key, value in {values!r}:
        if section not in config:
            config[section] = {{}}
        config[section][key] = value
    return config
"""
TRAIN = (
    "import sys; from launch import train; train.main(sys.argv[1:]); "
    "print(*{getattr(m, '__file__', None) or '' for m in [*sys.modules.values()]}, sep='\\n')"
)


def train(spec: str, *arguments: str) -> list[str]:
    """Files that a short run of a config loads, the config's own among them."""
    stride = loading.load(spec).train.steps_per_dispatch
    values = [(section, "every", stride) for section in ("eval", "checkpoint", "log")]
    path, _, variant = spec.partition(":")
    short = SHORT.format(
        path=str(ROOT / path), variant=variant, values=[*values, ("train", "steps", 2 * stride)]
    )
    with tempfile.TemporaryDirectory() as place:
        Path(place, "short.py").write_text(short)
        command = [sys.executable, "-c", TRAIN, f"--config={place}/short.py", *arguments]
        for name in ("first", "counted"):
            done = subprocess.run(
                [*command, f"--workdir={place}/{name}"], cwd=ROOT, capture_output=True, text=True
            )
            if done.returncode:
                sys.exit(done.stderr)
    return [spec.partition(":")[0], *done.stdout.splitlines()]


def project_files(files: Iterable[str], root: Path = ROOT) -> list[str]:
    """Those of some files that belong to a checkout (and not to its .venv), relative to it."""
    paths = [root / file for file in files if file]
    names = {path.relative_to(root).as_posix() for path in paths if path.is_relative_to(root)}
    return sorted(name for name in names if not name.startswith(".venv/"))


def lines(name: str) -> int:
    """Lines of a file of this checkout; 0 if there is none."""
    return len((ROOT / name).read_text().splitlines()) if (ROOT / name).is_file() else 0


def has_code(name: str) -> bool:
    """Whether a module holds more than a docstring."""
    body = ast.parse((ROOT / name).read_text()).body
    return len(body) > (ast.get_docstring(ast.Module(body, [])) is not None)


def count(names: list[str]) -> dict[str, int]:
    """Files with code, lines of all files, and lines of the command, training and loop."""
    return {
        "files": sum(map(has_code, names)),
        "lines": sum(map(lines, names)),
        "run": sum(map(lines, RUN)),
    }


def main(argv: list[str]) -> int:
    """Prints the files and the totals; returns 1 where a limit is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="configs/vae.py")
    parser.add_argument("--max-files", type=int, help="with code")
    parser.add_argument("--max-lines", type=int, help="of all files")
    parser.add_argument("--max-run", type=int, help="lines of the command, training and loop")
    options, rest = parser.parse_known_args(argv)
    names = project_files(train(options.config, *rest))
    for title, kind in ("code", True), ("only a docstring", False):
        print(f"{title}:")
        print(*(f"{lines(name):7,}  {name}" for name in names if has_code(name) is kind), sep="\n")
    counts = count(names)
    print(f"{counts['run']:,} lines in {', '.join(RUN)}")
    limits = {"files": options.max_files, "lines": options.max_lines, "run": options.max_run}
    broken = [name for name, limit in limits.items() if limit and counts[name] > limit]
    for name in broken:
        print(f"too many {name}: {counts[name]:,}, at most {limits[name]:,}", file=sys.stderr)
    print(json.dumps(counts))
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
