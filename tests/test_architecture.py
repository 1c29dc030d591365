"""The rooms and who may import whom."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STDLIB = set(sys.stdlib_module_names)
PURE = {"jax", "flax", "optax", "numpy", "scipy"}
# What of the standard library could touch files, clocks, networks or processes.
WORLD = {
    *("os", "io", "pathlib", "shutil", "tempfile", "time", "datetime", "random", "logging"),
    *("socket", "urllib", "subprocess", "threading", "multiprocessing", "asyncio", "signal"),
}
PACKAGES = [name for name in ("jaxgen", "jaxseg") if (ROOT / name).is_dir()]


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("package", PACKAGES)
def test_functional_core_imports_only_arrays_and_itself(package):
    for path in (ROOT / package).rglob("*.py"):
        found = set(imports(path))
        assert not found & WORLD, path
        assert found - STDLIB <= PURE | {package}, path
        assert "open(" not in path.read_text().replace("_open(", ""), path


def test_configs_are_data_only():
    for path in (ROOT / "configs").glob("*.py"):
        assert set(imports(path)) <= {"ml_collections"}, path


def test_nothing_imports_tensorflow_but_prepare():
    for path in (ROOT / "launch").rglob("*.py"):
        if path.name != "prepare.py":
            assert "tensorflow" not in set(imports(path)), path


def test_the_loop_names_no_model_and_is_short():
    source = (ROOT / "launch" / "loop.py").read_text()
    assert not set(imports(ROOT / "launch" / "loop.py")) & {"jaxgen", "jaxseg"}
    train = next(n for n in ast.parse(source).body if getattr(n, "name", "") == "train")
    assert train.end_lineno - train.lineno <= 120


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_the_library_loads_nothing_of_the_shell(package):
    shell = {"tensorflow", "tensorflow_datasets", "grain", "orbax", "launch", "ml_collections"}
    script = (
        f"import sys, pkgutil, importlib, {package}\n"
        "print(sorted({'absl'} & set(sys.modules)))\n"
        f"for m in pkgutil.iter_modules({package}.__path__):\n"
        f"    importlib.import_module('{package}.' + m.name)\n"
        f"print(sorted({shell} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "[]\n[]\n", done.stderr


def test_public_names_have_docstrings():
    for package in (*PACKAGES, "launch"):
        for path in (ROOT / package).rglob("*.py"):
            tree = ast.parse(path.read_text())
            assert ast.get_docstring(tree), path
            for node in tree.body:
                kind = isinstance(node, ast.FunctionDef | ast.ClassDef)
                if kind and not node.name.startswith("_"):
                    assert ast.get_docstring(node), f"{path}: {node.name}"
