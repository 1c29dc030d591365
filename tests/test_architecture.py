"""The packages: what each may import, and what holds for all of their code."""

import ast
import functools
import graphlib
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STDLIB = set(sys.stdlib_module_names)
ARRAYS = {"jax", "flax", "optax", "numpy", "scipy"}
# Modules of the standard library that could touch files, clocks, networks or processes.
WORLD = {
    *("os", "io", "pathlib", "shutil", "tempfile", "time", "datetime", "random", "logging"),
    *("socket", "urllib", "subprocess", "threading", "multiprocessing", "asyncio", "signal"),
}
LIBRARIES = ("jaxgen", "jaxseg")
COMMANDS = {
    *("train", "evaluate", "sample", "predict", "segment", "check", "prepare"),
    *("export", "inspect", "audit", "bench", "scaling", "local", "folds", "classify"),
}
# Packages of launch from the bottom to the top: none imports one of a later line.
LAYERS = (
    ("config", "storage"),
    ("cpu",),
    ("reporting",),
    ("checkpoints",),
    ("data", "distributed"),
    ("engine",),
    ("scoring", "inference", "audits", "exported", "weights", "planning"),
    ("benchmarks", "cli", *COMMANDS),
)
# Words of the first versions, as whole words; see docs/architecture.md for those of today.
OLD_WORDS = (
    *("Journal", "Silent", "Opened", "assemble", "objects.find", "of_average"),
    *("portable", "rendezvous", "lease", "PATIENCE", "on_first", "detours", "judge", "judged"),
    *("judgement", "verdict", "Mistake", "config.guard", "config.faults", "Subject", "Game"),
)


@functools.cache
def modules():
    """{name: path} of every module of the three packages."""
    found = {}
    for package in (*LIBRARIES, "launch"):
        top = importlib.import_module(package)
        found[package] = Path(top.__file__)
        for module in pkgutil.walk_packages(top.__path__, f"{package}."):
            path = ROOT.joinpath(*module.name.split("."))
            found[module.name] = path / "__init__.py" if module.ispkg else path.with_suffix(".py")
    return found


@functools.cache
def tree(path):
    return ast.parse(path.read_text())


def outside_of_functions(node):
    """Every node below `node` but those of the functions there."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, ast.FunctionDef | ast.Lambda):
            yield from outside_of_functions(child)


def imports(path, lazy=True):
    """Names that a file imports; without the imports inside of functions if not `lazy`."""
    for node in ast.walk(tree(path)) if lazy else outside_of_functions(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports by a relative name"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in modules() else node.module


def top_names(path):
    return {name.partition(".")[0] for name in imports(path)}


def functions(package):
    """(path, node) of every function and method of a package, nested ones too."""
    for name, path in modules().items():
        if name.partition(".")[0] == package:
            for node in ast.walk(tree(path)):
                if isinstance(node, ast.FunctionDef):
                    yield path, node


def arguments(function):
    given = function.args
    return [*given.posonlyargs, *given.args, *given.kwonlyargs]


def fresh(script):
    """Standard output of a script in a process of its own."""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_file_is_a_module_of_a_package():
    files = {path for top in (*LIBRARIES, "launch") for path in (ROOT / top).rglob("*.py")}
    assert files == set(modules().values())
    for folder in {path.parent for path in (ROOT / "tests").rglob("*.py")}:
        assert (folder / "__init__.py").is_file(), folder


def test_launch_itself_holds_the_commands_alone():
    files = {path.name for path in (ROOT / "launch").iterdir() if path.is_file()}
    assert files == {f"{name}.py" for name in COMMANDS} | {"cli.py", "__init__.py", "py.typed"}


def test_every_package_of_launch_has_a_place_in_the_layers():
    packages = {name.split(".")[1] for name in modules() if name.startswith("launch.")}
    assert packages == {name for layer in LAYERS for name in layer}


def test_no_package_of_launch_imports_a_higher_one():
    rank = {f"launch.{name}": place for place, layer in enumerate(LAYERS) for name in layer}
    layer = lambda name: rank.get(".".join(name.split(".")[:2]), -1)
    wrong = [
        f"{name} imports {other}"
        for name, path in modules().items()
        for other in imports(path)
        if other.startswith("launch.") and layer(other) > layer(name) >= 0
    ]
    assert not wrong


def test_no_modules_import_each_other_in_a_circle():
    graph = {}
    for name, path in modules().items():
        graph[name] = set()
        for other in imports(path, lazy=False):
            while other in modules() and not f"{name}.".startswith(f"{other}."):
                graph[name].add(other)
                other = other.rpartition(".")[0]  # its packages are imported before it
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("package", LIBRARIES)
def test_the_libraries_import_arrays_and_themselves_only(package):
    for path in (ROOT / package).rglob("*.py"):
        names = top_names(path)
        assert not names & WORLD, path
        assert names - STDLIB <= ARRAYS | {package}, path
        assert not re.search(r"(?<!\w)open\(", path.read_text()), path


def test_configs_are_data_only():
    for path in (ROOT / "configs").glob("*.py"):
        assert top_names(path) <= {"ml_collections"}, path


def test_nothing_imports_tensorflow_but_prepare():
    for path in (ROOT / "launch").rglob("*.py"):
        if path.name != "prepare.py":
            assert "tensorflow" not in top_names(path), path


def test_the_engine_imports_no_library():
    for name, path in modules().items():
        if name.startswith("launch.engine"):
            assert not top_names(path) & set(LIBRARIES), path
    script = "import sys, launch.engine.training; print(*sys.modules, sep='\\n')"
    loaded = {name.partition(".")[0] for name in fresh(script).split()}
    assert "launch" in loaded
    assert not loaded & set(LIBRARIES)


def test_importing_the_libraries_loads_nothing_of_the_shell():
    shell = {"tensorflow", "tensorflow_datasets", "orbax", "launch", "ml_collections"}
    script = (
        "import sys, importlib, jaxgen, jaxseg\n"
        "print({'absl'} & set(sys.modules))\n"
        f"for name in {[name for name in modules() if name.startswith(LIBRARIES)]}:\n"
        "    importlib.import_module(name)\n"
        f"print({shell} & set(sys.modules))"
    )
    assert fresh(script) == "set()\nset()\n"


def test_private_jax_is_imported_in_two_modules():
    users = {
        path.relative_to(ROOT).as_posix()
        for path in modules().values()
        if "jax._src" in path.read_text()
    }
    assert users == {"launch/distributed/private_jax.py", "launch/cpu/lowerings.py"}


def test_no_line_is_kept_from_the_formatter():
    for name, path in modules().items():
        assert "fmt: skip" not in path.read_text(), name


def takes_config(function):
    """Whether an argument is a whole config: by its annotation, or by its use without one."""
    for argument in arguments(function):
        if argument.arg == "config" and argument.annotation:
            return "ConfigDict" in ast.unparse(argument.annotation)
        if argument.arg == "config":
            inner = [ast.iter_child_nodes(n) for n in ast.walk(function) if takes_value(n)]
            return any(getattr(n, "id", "") == "config" for nodes in inner for n in nodes)
    return False


def takes_value(node):
    return isinstance(node, ast.Attribute | ast.Call | ast.keyword)


def test_few_functions_take_the_whole_config():
    takers = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path, node in functions("launch")
        if takes_config(node)
    ]
    # Six of them complete a config by a plan.
    assert len(takers) <= 26, "\n".join(takers)


def test_no_function_changes_a_config_that_it_was_given():
    for path, function in functions("launch"):
        nodes = list(ast.walk(function))
        given = {argument.arg for argument in arguments(function)} & {"config"}
        stored = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        for node in nodes:
            changes = isinstance(getattr(node, "ctx", None), ast.Store | ast.Del)
            if isinstance(node, ast.Attribute) and node.attr in ("update", "unlocked", "unlock"):
                changes = True
            if changes and isinstance(node, ast.Attribute | ast.Subscript):
                root = node.value
                while isinstance(root, ast.Attribute | ast.Subscript):
                    root = root.value
                name = getattr(root, "id", "")
                assert name not in given - stored, f"{path}:{node.lineno} {ast.unparse(node)}"


def public():
    """(where, node) of every public function and class of the three packages."""
    for path in modules().values():
        for node in tree(path).body:
            kind = isinstance(node, ast.FunctionDef | ast.ClassDef)
            if kind and not node.name.startswith("_"):
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node


def test_public_names_have_docstrings():
    assert all(ast.get_docstring(tree(path)) for path in modules().values())
    for where, node in public():
        assert ast.get_docstring(node), where


def test_public_functions_document_their_arguments_and_errors():
    wrong = []
    for where, node in public():
        if isinstance(node, ast.ClassDef) or node.name == "main":
            continue
        text = ast.get_docstring(node) or ""
        own = [child for child in outside_of_functions(node) if isinstance(child, ast.Raise)]
        if any(child.exc for child in own) and "Raises:" not in text:
            wrong.append(f"{where}: no Raises")
        lines = (ROOT / where.partition(":")[0]).read_text().splitlines()
        commented = all("#" in lines[argument.lineno - 1] for argument in arguments(node))
        if len(arguments(node)) > 3 and "Args:" not in text and not commented:
            wrong.append(f"{where}: no Args")
    assert not wrong, "\n".join(wrong)


def test_none_of_the_old_words_is_left():
    words = re.compile("|".join(rf"(?<!\w){re.escape(word)}(?!\w)" for word in OLD_WORDS))
    tops = (*LIBRARIES, "launch", "configs", "docs", "tests")
    files = [path for top in tops for path in (ROOT / top).rglob("*.*") if path.suffix != ".pyc"]
    for path in (ROOT / "README.md", *files):
        if path.suffix in (".py", ".md", ".sh", ".yaml", ".sbatch") and path != Path(__file__):
            for number, line in enumerate(path.read_text().splitlines(), 1):
                assert not words.search(line), f"{path.relative_to(ROOT)}:{number}: {line}"
