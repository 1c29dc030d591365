import json
import re
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from launch.config import loading, schema
from launch.config.errors import UserError

VAE = str(Path(__file__).parents[3] / "configs" / "vae.py")


@pytest.mark.parametrize(
    "variant", ["", "conv", "conditional", "mnist", "mnist_conv", "mnist_iwae"]
)
def test_shipped_configs_are_complete_and_valid(variant):
    config = loading.load(f"{VAE}:{variant}")
    schema.check_values(config)
    assert config.task.name == "jaxgen.vae:vae"
    json.dumps(config.to_dict())


def test_a_schedule_follows_the_number_of_steps():
    config = loading.load(f"{VAE}:mnist")
    config.train.steps = 123
    assert config.to_dict()["optimizer"]["learning_rate"]["decay_steps"] == 123


def test_installed_configs_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert loading.load("configs/vae.py").data.name == "digits"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"bach": 1}, "unknown key 'bach'"),
        ({"data": {"bach_size": 1}}, "'data.bach_size'; did you mean 'data.batch_size'"),
        ({"data": 3}, "data must be a mapping"),
        ({"train": {"steps": "many"}}, "train.steps must be int, got 'many'"),
        ({"data": {"resident": 1}}, "data.resident must be bool"),
        ({"data": {"augment": 1}}, "data.augment must be list, got 1"),
        ({"data": {"name": ("a",)}}, "data.name must be str"),
    ],
)
def test_unknown_keys_and_types_are_named(content, message):
    with pytest.raises(UserError, match=message):
        loading.with_defaults(ConfigDict(content), "mine.py")


def test_numbers_may_be_keys(tmp_path):
    """As in a schedule that falls in steps; config.json has them as text."""
    (tmp_path / "steps.py").write_text(
        "from configs.unet import get_config as unet\n"
        "def get_config(variant=''):\n"
        "    config = unet()\n"
        "    config.optimizer.learning_rate = {\n"
        "        'name': 'optax:piecewise_constant_schedule', 'init_value': 1e-3,\n"
        "        'boundaries_and_scales': {100: 0.1, 300: 0.5}}\n"
        "    return config\n"
    )
    rate = loading.load(str(tmp_path / "steps.py")).optimizer.learning_rate
    assert rate.boundaries_and_scales.to_dict() == {"100": 0.1, "300": 0.5}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nowhere.py", "no such file: nowhere.py"),
        (f"{VAE}:mnits", "no variant 'mnits'"),
        (str(Path(__file__)), "no function get_config"),
    ],
)
def test_missing_files_and_variants_are_named(spec, message):
    with pytest.raises(UserError, match=message):
        loading.load(spec)


def test_overrides_take_the_types_of_the_config_and_leave_it_as_it_is():
    config = loading.load(f"{VAE}:mnist")
    overrides = ["--config.train.steps=20000", "--config.model.encoder.widths=(7, 8)"]
    changed = loading.override(config, overrides)
    assert changed.model.encoder.widths == (7, 8)
    # A key that follows another one follows its override.
    assert changed.optimizer.learning_rate.decay_steps == 20_000
    assert config.train.steps == config.optimizer.learning_rate.decay_steps == 40_000


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.train.stepz=3", r"--config\.train\.stepz: unknown key .*'train\.steps'"),
        ("--config.train.steps=many", "many"),
        ("--config.train.steps=0", "must be at least 1"),
    ],
)
def test_overrides_that_cannot_work_are_named(override, message):
    with pytest.raises(UserError, match=message):
        loading.override(loading.load(VAE), [override])


def test_defaults_fill_what_a_config_leaves_out():
    content = {"train": {"steps": 7}, "data": {"augment": ()}}  # a tuple serves for a list
    config = loading.with_defaults(ConfigDict(content), "mine.py")
    assert (config.train.steps, config.train.accumulate, config.log.every) == (7, 1, 100)
    assert config.to_dict().keys() == schema.defaults().to_dict().keys()
    assert config.is_locked


def test_a_run_is_called_after_its_config():
    assert loading.default_name("configs/vae.py") == "vae"
    assert loading.default_name("some/where/vae.py:mnist") == "vae_mnist"


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


IMPORT = "from ml_collections import ConfigDict, FrozenConfigDict\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x = 1\ndef get_config(:\n", r"{}, line 2: SyntaxError: invalid syntax"),
        ("x = 1\n\n  y = 2\n", r"{}, line 3: IndentationError: unexpected indent"),
        ("x = 1\nimport no_such_module\n", r"{}, line 2: ModuleNotFoundError: No module named"),
        ("\n\n1 / 0\n", r"{}, line 3: ZeroDivisionError: division by zero"),
        ("raise SystemExit\n", r"{}, line 1: SystemExit"),
        (b"x = 'caf\xe9'\n", r"{}, line \d: SyntaxError: .*(utf-8|UTF-8)"),
        (b"x = '\0'\n", r"{}, line 1: SyntaxError: .*null bytes"),
        ("get_config = 3\n", r"{} has no function get_config\(variant\)"),
        ("\ndef get_config():\n  pass\n", r"{}, line 2: get_config takes no variant; begin it"),
        ("\ndef get_config(variant, more):\n  pass\n", r"{}, line 2: get_config takes no variant"),
        (
            "def get_config(variant=''):\n  pass\n",
            r"{}, line 1: get_config returns NoneType, not a",
        ),
        ("\ndef get_config(v):\n  return {{}}\n", r"{}, line 2: get_config returns dict, not a"),
        ("from functools import partial\nget_config = partial(dict)\n", r"{}: .*"),
        (
            IMPORT + "def get_config(v):\n  return FrozenConfigDict()\n",
            r"{}, line 2: get_config returns FrozenConfigDict, not a ConfigDict",
        ),
        ("def get_config(v):\n\n  return help_me(v)\n", r"{}, line 3: NameError: name 'help_me'"),
        ("def f():\n  return [][1]\ndef get_config(v):\n  f()\n", r"{}, line 2: IndexError: list"),
        ("def get_config(v):\n  raise ValueError('no x')\n", r"{}, line 2: no x$"),
        ("def get_config(v):\n  raise ValueError\n", r"{}, line 2: ValueError"),
        ("import json\ndef get_config(v):\n  json.loads('')\n", r"{}, line 3: Expecting value"),
        (
            IMPORT + "def get_config(v):\n  return ConfigDict({{'task': {{'f': [print]}}}})\n",
            r"{}: task.f = \[<built-in function print>\]: a config holds numbers, text, lists",
        ),
    ],
)
def test_a_file_that_fails_is_named_with_its_line(tmp_path, content, message):
    content = content if isinstance(content, bytes) else content.format()
    path = write(tmp_path / "mine.py", content)
    with pytest.raises(UserError, match=message.replace("{}", re.escape(str(path)))):
        loading.load(str(path))


def test_the_line_of_bad_syntax_in_an_imported_file_is_of_that_file(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    write(tmp_path / "imported_by_mine.py", "x = 1\ny = (\n")
    write(tmp_path / "mine.py", "import imported_by_mine\n")
    with pytest.raises(
        UserError, match=r"imported_by_mine.py, line 2: SyntaxError: '\(' was never"
    ):
        loading.load(str(tmp_path / "mine.py"))


def test_what_is_no_python_file_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"is a folder; give a .py file in it"):
        loading.load(str(tmp_path))
    with pytest.raises(UserError, match=r"mine.yaml: its name must end in .py"):
        loading.load(str(write(tmp_path / "mine.yaml", "a: 1")))
    write(tmp_path / "mine.py", IMPORT + "get_config = lambda v: ConfigDict({'seed': 3})\n")
    assert loading.load(str(tmp_path / "mine.py")).seed == 3
