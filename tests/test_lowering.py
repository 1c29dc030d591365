"""The programs of the shipped configs lower for GPUs and TPUs, from a machine with neither.

Lowering turns a traced function into StableHLO for a platform and compiles nothing, so that nets
have their full size. It fails where a function has no rule for that platform. To keep the time
within 40 s of a CPU:

- the training step is lowered for every variant of every config, for CUDA and TPU at once, but
  not again for variants with the same operations: `mnist_hinge` is `hinge` at another size, and
  `texture` is another data set of the same form;
- the functions of evaluation, scores, samples, completions, interpolations and predictions are
  lowered for one variant of each task, and the sampler of each net of the pixel RNN. Figures are
  made of the same functions.
"""

import re
from functools import partial

import jax
import numpy as np
import pytest

from launch.config import by_name, loading, planned
from launch.data import batches
from launch.engine import compiled_steps, experiments, sharding, validate
from tests.test_configs import SPECS

PLATFORMS = ("cuda", "tpu")
ONE_OF_EACH_TASK = (
    "configs/vae.py",
    "configs/vae.py:ladder",
    "configs/autoencoder.py",
    "configs/gan.py",
    "configs/gan.py:image",
    "configs/rnn.py",
    "configs/rnn.py:draw",
    "configs/flow.py:conditional",
    "configs/unet.py:texture_cue",
    "configs/cnn.py",
    "configs/edges.py",
    "configs/multilabel.py",
    "configs/instances.py",
)
PLANNED = {
    "data.batch_size": 8,
    "data.resident": False,
    "data.kwargs.size": (180, 240),
    "data.kwargs.scale": 0.5,
    "data.augment": [{"name": "jaxseg.augment:warp", "crop": (128, 128), "balance": 0.3}],
    "model.widths": (32, 64, 128, 192),
    "model.stem": 2,
    "model.mean": (0.4, 0.5, 0.6),
    "model.std": (0.2, 0.3, 0.2),
    "task.loss.terms": [{"name": "jaxseg.losses:dice"}],
    **dict.fromkeys(("train.steps", "train.steps_per_dispatch", "log.every"), 1),
    **dict.fromkeys(("eval.every", "eval.batch_size", "checkpoint.every"), 1),
}
FUNCTIONS = ("init", "eval_step", "score_step", "sample", "complete", "interpolate", "predict")
OTHER_SAMPLERS = ("configs/rnn.py:row_lstm", "configs/rnn.py:pixelcnn")
# Variants with the operations of another one; beside them mnist_X, which has those of X.
SAME_OPERATIONS = (
    *("configs/unet.py:texture", "configs/unet.py:depth"),  # of unet.py
    "configs/rnn.py:diagonal_bilstm",  # of rnn.py
    "configs/segment.py:lite0_probe",  # of segment.py:lite0
    *("configs/segment.py:labels", "configs/segment.py:objects"),  # of multilabel, instances
    "configs/multilabel.py:binary",  # of multilabel.py
    # Of flow.py and autoencoder.py or vae.py; they need a trained run, as the next one does.
    *("configs/flow.py:latent", "configs/flow.py:vector"),
    "configs/flow.py:distilled",  # of flow.py:meanflow
    "configs/rnn.py:codes",  # of rnn.py:pixelcnn and autoencoder.py
)
DIFFERENT = [
    spec
    for spec in SPECS
    if spec not in SAME_OPERATIONS and spec.replace(":mnist_", ":") not in set(SPECS) - {spec}
]
LABEL, SCENE_CLASSES = {"label": ["int32"]}, tuple("abcdefg")


def image(height, width, channels):
    return {"image": ["uint8", height, width, channels]}


def facts_of(config):
    """What config.json would keep of the data: shapes and classes, so that no data is needed."""
    data, reading = config.data, config.data.kwargs
    kind = data.preprocess.get("name", "").partition(":")[2] or data.name.rpartition(":")[2]
    classes = ()
    if kind in ("digits", "mnist", "square", "breeds"):
        side = data.preprocess.get("size", 8 if kind == "digits" else 28)
        example = image(side, side, 3 if kind == "breeds" else 1) | LABEL
    elif kind == "coloured":
        example = image(8, 8, 3) | LABEL
    elif kind == "cifar10":
        example = image(32, 32, 3) | LABEL
    elif kind == "pictures":
        example = image(reading["size"], reading["size"], reading["channels"])
    elif kind == "discs":
        example = image(64, 64, 1) | {"instances": ["int32", 64, 64, 1]}
        if reading["weights"]:
            example |= {"weight": ["float32", 64, 64, 1]}
    elif kind == "overlaps":
        classes = tuple(reading.get("classes", "abcd"))
        example = image(64, 64, 3) | {"labels": ["uint8", 64, 64, len(classes)]}
    elif kind == "bsds":
        example = image(321, 481, 3) | {"edges": ["uint8", 321, 481, 1]}
    else:
        size = (64, 64)
        if kind in ("folder", "pets", "cityscapes"):
            size = reading.get("size") or data.preprocess["size"]
            size = size if any(size) else (128, 128)  # a folder's own
        masks = {"segmentation": ["uint8", *size, 1]}
        depth = {"depth": ["int32", *size, 1]} if kind.startswith("scenes/depth") else {}
        example, classes = image(*size, 3) | masks | depth, SCENE_CLASSES
        if config.task.classes > 0:
            classes = ()
        if kind == "folder" and config.task.classes == -1:
            classes = tuple(map(str, range(reading["classes"] or 3)))
    return {"example": example, "classes": classes, "reading": {}}


def steps_of(spec, resident=None):
    """The compiled functions of a config on one device, its state and the shapes of a batch."""
    config = planned.filled(loading.load(spec), PLANNED)
    data = batches.recorded(facts_of(config))
    config = experiments.with_classes(config, data.split)
    made, rates = experiments.make_task(config, data.example, data.split.classes)
    task = validate.with_optional_fields(made, spec)
    batch = batches.batch_spec(data.example, config.data.batch_size)
    state = jax.eval_shape(task.init, jax.eval_shape(lambda: jax.random.key(0)), batch)
    steps = compiled_steps.compile_task(
        task,
        state,
        sharding.make_mesh(1, 1),
        seed=config.seed,
        learning_rates=rates,
        accumulate=config.train.accumulate,
        augment=tuple(by_name.partial(one, spec) for one in config.data.augment),
        resident=resident,
        pmap=False,
        skip_nonfinite=False,
    )
    return task, steps, state, batch


def lower(function, *specs, platforms=PLATFORMS):
    return function.trace(*specs).lower(lowering_platforms=platforms)


@pytest.mark.parametrize("spec", DIFFERENT)
def test_a_training_step_lowers(spec):
    _, steps, state, batch = steps_of(spec)
    lower(steps.train, state, batch, 0)


@pytest.mark.parametrize("spec", ONE_OF_EACH_TASK)
def test_the_other_functions_lower(spec):
    task, steps, state, batch = steps_of(spec)
    given = {task.given: batch[task.given]} if task.given else {}
    inputs = {
        "init": (batch,),
        "sample": (state, seeds(batch)),
        "complete": (state, seeds(batch) | given),
        "interpolate": (state, seeds(batch) | {"end": batch["index"]}),
    }
    same = {"score_step"} if task.score_step is task.eval_step else set()
    for name in FUNCTIONS:
        if name not in same and (function := getattr(steps, name)) is not None:
            lower(function, *inputs.get(name, (state, batch)))
    lower(steps.all_finite, state)


@pytest.mark.parametrize("spec", OTHER_SAMPLERS)
def test_a_sampler_lowers(spec):
    _, steps, state, batch = steps_of(spec)
    lower(steps.sample, state, seeds(batch))


def seeds(batch):
    """What `sample` takes: the seeds of images, and their classes."""
    return {"index": batch["index"], "label": batch["index"]}


def test_every_task_is_among_those_whose_other_functions_are_lowered():
    tasks = lambda specs: {loading.load(spec).task.name for spec in specs}
    assert tasks(ONE_OF_EACH_TASK) == tasks(SPECS)


def test_many_steps_of_resident_data_lower():
    """As the default config trains: rows are gathered on the device, 50 steps in one program."""
    resident = {"image": np.zeros((64, 8, 8, 1), np.uint8), "label": np.zeros(64, np.int32)}
    _, steps, state, batch = steps_of("configs/vae.py", resident)
    feed = {"index": jax.ShapeDtypeStruct((50, *batch["index"].shape), np.int32)}
    lower(jax.jit(partial(steps.train, step=0)), state, feed)


def test_convolutions_for_a_tpu_are_single_operations():
    """What makes convolutions faster on CPUs, such as a loop over them, stays on CPUs."""
    _, steps, state, batch = steps_of("configs/unet.py")
    text = lower(steps.train, state, batch, 0, platforms=("tpu",)).as_text()
    nets = loading.load("configs/unet.py").model.widths
    # Two convolutions of each level and their two gradients, at the least.
    assert len(re.findall(r"stablehlo\.convolution", text)) >= 2 * 3 * len(nets)
    assert "stablehlo.while" not in text
