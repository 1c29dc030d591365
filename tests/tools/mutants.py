"""Measures the tests: how many random single changes of the code do they notice?

python -m tests.tools.mutants --seconds=900 --seed=0 [launch/data ...]

A change is an operator, a comparison or a constant of jaxgen, jaxseg or launch, defaults
among them; docstrings, annotations and `__init__.py` files are left alone. Each change is
made in a copy of the checkout, where the test file of the changed module runs alone:
tests/launch/data/test_order.py for launch/data/order.py. The change counts as noticed if
that file fails or runs for too long. A module without a test file notices nothing.
"""

import argparse
import ast
import collections
import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("jaxgen", "jaxseg", "launch")
OPERATORS = {
    ast.Add: (b"+", [b"-"]),
    ast.Sub: (b"-", [b"+"]),
    ast.Mult: (b"*", [b"/"]),
    ast.Div: (b"/", [b"*"]),
    ast.FloorDiv: (b"//", [b"*"]),
    ast.Mod: (b"%", [b"*"]),
    ast.Pow: (b"**", [b"*"]),
    ast.Lt: (b"<", [b"<=", b">"]),
    ast.LtE: (b"<=", [b"<", b">="]),
    ast.Gt: (b">", [b">=", b"<"]),
    ast.GtE: (b">=", [b">", b"<="]),
    ast.Eq: (b"==", [b"!="]),
    ast.NotEq: (b"!=", [b"=="]),
    ast.And: (b"and", [b"or"]),
    ast.Or: (b"or", [b"and"]),
}


class Site(NamedTuple):
    """A place that can be changed: bytes [start, end) of a file become one of `choices`."""

    path: str
    line: int
    kind: str
    start: int
    end: int
    choices: list[bytes]


def sites(path: str, source: bytes) -> Iterator[Site]:
    """Every place of a module that can be changed."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    begin = lambda node: starts[node.lineno - 1] + node.col_offset
    end = lambda node: starts[node.end_lineno - 1] + node.end_col_offset

    def between(left, right, operator, kind):
        first, last = end(left), begin(right)
        text, choices = OPERATORS.get(type(operator), (None, []))
        # Comments and brackets may stand there too; `+` is the first part of `+=`.
        gap = re.sub(rb"#[^\n]*", lambda comment: b" " * len(comment[0]), source[first:last])
        if text and (at := gap.find(text)) >= 0:
            place = first + at
            yield Site(path, left.end_lineno, kind, place, place + len(text), choices)

    def visit(node, default):
        if isinstance(node, ast.BinOp):
            yield from between(node.left, node.right, node.op, "operator")
        elif isinstance(node, ast.AugAssign):
            yield from between(node.target, node.value, node.op, "operator")
        elif isinstance(node, ast.Compare):
            terms = [node.left, *node.comparators]
            if getattr(node.left, "id", "") != "__name__":
                for left, right, operator in zip(terms, terms[1:], node.ops, strict=False):
                    yield from between(left, right, operator, "comparison")
        elif isinstance(node, ast.BoolOp):
            for left, right in zip(node.values, node.values[1:], strict=False):
                yield from between(left, right, node.op, "boolean")
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
            word, choice = (b"not", b"") if isinstance(node.op, ast.Not) else (b"-", b"+")
            first = begin(node)
            if source[first:].startswith(word):
                yield Site(path, node.lineno, "unary", first, first + len(word), [choice])
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
            text = source[begin(node) : end(node)].decode()
            if text and text.strip() == text and _literal(text) == node.value:
                choices = [c.encode() for c in _others(node.value)]
                kind = "default" if default else "constant"
                yield Site(path, node.lineno, kind, begin(node), end(node), choices)
        for name, field in ast.iter_fields(node):
            if name in ("annotation", "returns"):
                continue
            given = default or name in ("defaults", "kw_defaults")
            for child in field if isinstance(field, list) else [field]:
                if isinstance(child, ast.AST):
                    own = isinstance(node, ast.ClassDef) and isinstance(child, ast.AnnAssign)
                    yield from visit(child, given or own)

    yield from visit(ast.parse(source), False)


def _literal(text):
    with contextlib.suppress(SyntaxError, ValueError):
        return ast.literal_eval(text)


def _others(value):
    if isinstance(value, bool):
        return [repr(not value)]
    near = [value + 1] if abs(value) < 1000 else []  # a change of 1e12 by one is none
    candidates = (*near, value * 2, type(value)(0))
    return [repr(other) for other in dict.fromkeys(candidates) if other != value]


def test_file(path: str) -> str:
    """The test file of a module."""
    return str(Path("tests", path).with_name(f"test_{Path(path).name}"))


class Copy:
    """A copy of the checkout with a cache of its own, of which only compilations are shared."""

    def __init__(self, place: Path):
        self.place, self.root = place, place / "main"
        listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.check_output(listing, cwd=ROOT, text=True).split("\0")
        for name in names:
            if name and (ROOT / name).is_file():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, self.root / name)
        (place / "shared").symlink_to(ROOT.parent / "shared")
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        compiled = cache / "segen" / "tests" / "jax"
        compiled.mkdir(parents=True, exist_ok=True)
        (place / "cache" / "segen" / "tests").mkdir(parents=True)
        (place / "cache" / "segen" / "tests" / "jax").symlink_to(compiled)
        (place / "tmp").mkdir()

    def changed(self, site: Site, choice: bytes, timeout: float) -> bool:
        """Whether the test file of a module notices a change."""
        source = (ROOT / site.path).read_bytes()
        changed = source[: site.start] + choice + source[site.end :]
        (self.root / site.path).write_bytes(changed)
        try:
            return self.pytest("-x", test_file(site.path), timeout=timeout)[0] not in (0, 5)
        finally:
            (self.root / site.path).write_bytes(source)

    def pytest(self, *arguments: str, timeout: float) -> tuple[int, str]:
        """Exit code (-1: timeout) and output of a pytest process."""
        environment = os.environ | {
            "XDG_CACHE_HOME": str(self.place / "cache"),
            "TMPDIR": str(self.place / "tmp"),
            "PYTHONDONTWRITEBYTECODE": "1",  # a change of the same second would go unseen
        }
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
        with tempfile.TemporaryFile("w+") as output:
            process = subprocess.Popen(
                [*command, f"--basetemp={self.place / 'tmp' / 'pytest'}"],
                cwd=self.root,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code = process.wait(timeout)
            except subprocess.TimeoutExpired:
                code = -1
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            output.seek(0)
            return code, output.read()


def main(argv: list[str]) -> int:
    """Changes and tests for a while; prints each change, then counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*", default=PACKAGES, help="packages or modules")
    parser.add_argument("--seconds", type=float, default=900.0, help="start no change after these")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds of a test file")
    options = parser.parse_args(argv)
    chosen = random.Random(options.seed)
    modules = [
        file.relative_to(ROOT).as_posix()
        for path in options.paths
        for file in ([ROOT / path] if path.endswith(".py") else sorted((ROOT / path).rglob("*.py")))
        if file.name != "__init__.py"
    ]
    places = [site for path in modules for site in sites(path, (ROOT / path).read_bytes())]
    print(f"{len(places):,} places in {len(modules)} modules; seed {options.seed}", flush=True)
    chosen.shuffle(places)
    changes = [(site, chosen.choice(site.choices)) for site in places]
    began, noticed, unnoticed = time.monotonic(), [], []

    def work(copy):
        while changes and time.monotonic() - began < options.seconds:
            site, choice = changes.pop()
            start, tested = time.monotonic(), (ROOT / test_file(site.path)).is_file()
            seen = tested and copy.changed(site, choice, options.timeout)
            (noticed if seen else unnoticed).append(site)
            print(describe(site, choice, tested, seen, time.monotonic() - start), flush=True)

    with tempfile.TemporaryDirectory() as place:
        copies = [Copy(Path(place, str(job))) for job in range(options.jobs)]
        with futures.ThreadPoolExecutor(options.jobs) as pool:
            list(pool.map(work, copies))
        # A test file that passed with a change passes without; the others may have failed anyway.
        doubtful = {test_file(s.path) for s in noticed} - {test_file(s.path) for s in unnoticed}
        code, output = copies[0].pytest(*sorted(doubtful), timeout=3600) if doubtful else (0, "")
    if code:
        print(f"these fail without a change, so the counts mean nothing:\n{output}")
    print(json.dumps(counts(options.seed, noticed, unnoticed)))
    return int(code != 0)


def describe(site: Site, choice: bytes, tested: bool, seen: bool, seconds: float) -> str:
    """One line about a change."""
    source = (ROOT / site.path).read_bytes()
    line = source.splitlines()[site.line - 1].decode().strip()
    result = "noticed" if seen else "NOT NOTICED" if tested else "NO TEST FILE"
    before, after = source[site.start : site.end].decode(), choice.decode()
    where = f"{site.path}:{site.line}"
    return f"{result:12} {seconds:5.1f} s  {where}  {site.kind}: {before} -> {after}  | {line}"


def counts(seed: int, noticed: list[Site], unnoticed: list[Site]) -> dict:
    """Counts in all, by kind and by package; percent are of changes that were noticed."""

    def share(key):
        seen, missed = (collections.Counter(map(key, of)) for of in (noticed, unnoticed))
        return {
            name: {
                "changes": seen[name] + missed[name],
                "percent": round(100 * seen[name] / (seen[name] + missed[name]), 1),
            }
            for name in sorted({*seen, *missed})
        }

    without = {site.path for site in unnoticed if not (ROOT / test_file(site.path)).is_file()}
    return {
        "seed": seed,
        **share(lambda site: "all"),
        "kinds": share(lambda site: site.kind),
        "packages": share(lambda site: site.path.partition("/")[0]),
        "without_test_file": sorted(without),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
