"""Runs of the real command line, for tests and tools: start, kill, compare."""

import contextlib
import hashlib
import importlib
import io
import subprocess
import sys
from pathlib import Path
from unittest import mock

import jax
import numpy as np
import orbax.checkpoint as ocp

from launch import cli

ROOT = Path(__file__).resolve().parents[2]

# A run of a few seconds that saves often: small nets, 8 x 8 digits.
SHORT = [
    "--config=configs/vae.py",
    "--config.model.encoder.widths=(32,)",
    "--config.model.decoder.widths=(32,)",
    "--config.train.steps=400",
    "--config.train.steps_per_dispatch=1",
    "--config.data.resident=False",
    "--config.eval.every=100",
    "--config.checkpoint.every=20",
    "--config.checkpoint.best=",
    "--config.log.every=20",
]


def start(module: str, *arguments: str, **options) -> subprocess.Popen:
    """Starts `python -m launch.<module>`."""
    return subprocess.Popen(
        [sys.executable, "-m", f"launch.{module}", *map(str, arguments)],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def run(module: str, *arguments: str) -> subprocess.CompletedProcess:
    """Runs `python -m launch.<module>` to its end; kills it after five minutes."""
    process = start(module, *arguments)
    try:
        stdout, stderr = process.communicate(timeout=300)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def call(module: str, *arguments: str) -> subprocess.CompletedProcess:
    """Runs `launch.<module>` in this process: its exit code, and the outputs that it prints."""
    argv = [f"launch.{module}", *map(str, arguments)]
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.chdir(ROOT))
        stack.enter_context(mock.patch.object(sys, "argv", argv))
        stdout = stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stderr = stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        code = 0
        try:
            cli.run(importlib.import_module(argv[0]).main)
        except SystemExit as left:
            code = left.code
    return subprocess.CompletedProcess(argv, code, stdout.getvalue(), stderr.getvalue())


def state_hash(workdir: Path, step: int) -> str:
    """SHA-256 over every array of a checkpoint's state, by name."""
    path = Path(workdir).absolute() / "checkpoints" / str(step) / "state"
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    with ocp.StandardCheckpointer() as reader:
        saved = reader.metadata(path).item_metadata.tree
        place = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here)
        tree = reader.restore(path, jax.tree.map(place, saved))
    digest = hashlib.sha256()
    for key, leaf in jax.tree_util.tree_leaves_with_path(tree):
        digest.update(jax.tree_util.keystr(key).encode())
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()
