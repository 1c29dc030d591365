"""Eight simulated devices, strict arithmetic, and a compilation cache of the suite's own."""

import gc
import logging
import os
import re
import signal
import threading
from importlib import metadata
from pathlib import Path

# Tests spend most of their time in XLA's compiler, and their numbers do not need its late
# optimisations, nor its slow way of fusing. Commands that tests start as processes inherit the
# flags.
QUICK = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_parallel_codegen_split_count=1"
)
if metadata.version("jaxlib") < "0.11":  # later ones have no other way, and refuse the flag
    QUICK += " --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("XLA_FLAGS", QUICK)
# What commands add; the flags are part of a program's name in the compilation cache.
for flag in ("--xla_cpu_prefer_vector_width=512", "--xla_gpu_deterministic_ops=true"):
    if flag.partition("=")[0] not in os.environ["XLA_FLAGS"]:
        os.environ["XLA_FLAGS"] += f" {flag}"

# Programs with oneDNN's convolutions cannot be kept in the compilation cache, which saves half of
# the suite's time; only the tests of launch/cpu have them.
os.environ.setdefault("SEGEN_CPU_RULES", "xla")

import hypothesis
import jax
import pytest
from jax._src import compilation_cache
from ml_collections import ConfigDict

from launch import cli, storage
from launch.config import loading
from tests.tools import bucket

# Commands that run in this process turn the cache off, because programs of several CPU
# devices cannot be loaded safely; here it stays on, for those of one device.
load, save = compilation_cache.get_executable_and_time, compilation_cache.put_executable_and_time
compilation_cache.is_cache_used = lambda backend: True
compilation_cache.get_executable_and_time = lambda key, options, backend, devices, *rest: (
    load(key, options, backend, devices, *rest) if len(devices) == 1 else (None, None)
)
compilation_cache.put_executable_and_time = lambda key, name, executable, *rest: (
    save(key, name, executable, *rest) if len(executable.local_devices()) == 1 else None
)

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "segen" / "tests"

jax.config.update("jax_num_cpu_devices", 8)
# A program at a time: on few cores, eight devices' programs that wait for each other can
# hold all of XLA's threads, and a collective that cannot begin ends the process.
jax.config.update("jax_cpu_enable_async_dispatch", False)
jax.config.update("jax_numpy_rank_promotion", "allow")
jax.config.update("jax_compilation_cache_dir", str(CACHE / "jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
for name in ("COMPILATION_CACHE_DIR", "PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
    # For the commands that tests start, in this process or another.
    os.environ[f"JAX_{name}"] = str(getattr(jax.config, f"jax_{name.lower()}"))
os.environ["PJRT_NPROC"] = "64"  # as `sharding.set_up_jax` has it for simulated devices
# scikit-learn, which some tests compare with, counts cores by joblib, and that warns where a
# machine does not tell (a chroot or container without /sys).
os.environ.setdefault("LOKY_MAX_CPU_COUNT", "1")
# What JAX keeps of thousands of programs, Python would look through again and again.
gc.set_threshold(50_000, 20, 50)
cli.quiet()
cli.install_handler()
# A suite in the background, or under nohup, is started to ignore these signals, and so would
# be the commands that it starts; a handler is not passed on to them, a signal ignored is.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *received: None)

# The first example of a property compiles, whatever it is; and CI shall not be a lottery.
hypothesis.settings.register_profile("suite", deadline=None, derandomize=True)
hypothesis.settings.load_profile("suite")

SHARED_MNIST = Path(__file__).resolve().parents[2] / "shared" / "data" / "tfds" / "mnist" / "3.0.1"


@pytest.fixture(autouse=True)
def _same_log_level():
    """Processes other than 0 log errors alone; a test that plays one leaves others as they were."""
    yield
    logging.getLogger("segen").setLevel(logging.INFO)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A TFDS folder for the embedded data sets, shared by the whole session."""
    return str(tmp_path_factory.mktemp("tfds"))


@pytest.fixture(scope="session")
def mnist_dir(tmp_path_factory):
    """A TFDS folder with MNIST, or a skip where there is none."""
    if not SHARED_MNIST.is_dir():
        pytest.skip(f"needs MNIST prepared by TFDS in {SHARED_MNIST}")
    folder = tmp_path_factory.mktemp("tfds-mnist")
    version = folder / "mnist" / "3.0.1"
    version.mkdir(parents=True)
    for path in SHARED_MNIST.iterdir():
        if path.is_file():
            (version / path.name).symlink_to(path)
    return str(folder)


@pytest.fixture(scope="session")
def stand_in():
    """A stand-in for Google Cloud Storage, which this process and its children use."""
    server = bucket.Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in bucket.environment(server.server_port).items():
            patch.setenv(name, value)
        yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def place(stand_in, request):
    """A folder of a test's own in the stand-in's bucket."""
    return storage.path(f"gs://{bucket.NAME}/{re.sub(r'[^a-z0-9_]', '-', request.node.name)}")


@pytest.fixture(scope="session")
def small_config(data_dir):
    """`small`, for fixtures that live longer; not to be changed."""
    config = ConfigDict(
        {
            "task": {"name": "jaxgen.vae:vae", "nll_samples": 60},
            "model": {
                "encoder": {"name": "jaxgen.nets:MLPEncoder", "latents": 4, "widths": (32,)},
                "decoder": {"name": "jaxgen.nets:MLPDecoder", "widths": (32,)},
            },
            "optimizer": {"name": "optax:adam", "learning_rate": 1e-3, "ema": 0.9},
            "data": {"name": "digits", "data_dir": data_dir, "batch_size": 32},
            "train": {"steps": 40},
            "eval": {"every": 20, "batch_size": 128},
            "checkpoint": {"every": 10},
            "log": {"every": 5},
            "mesh": {"data": 1},
        }
    )
    return loading.with_defaults(config, "small")


@pytest.fixture
def small(small_config):
    """A config of the smallest useful run: a tiny VAE, 40 steps, saves every 10."""
    return small_config.copy_and_resolve_references()
