import jax.numpy as jnp
import numpy as np

from launch.data.batches import Data
from launch.data.sources import Split
from launch.engine.evaluation import Evaluator, Monitor, passes
from launch.reporting.metrics_writer import MetricsWriter
from tests.launch.engine.small import experiment_of
from tests.launch.reporting.test_metrics_writer import Recording


class Mean:
    """A task that is no model: its loss is the state times the mean of `x`."""

    def init(self, rng, batch):
        return jnp.ones(())

    def train_step(self, state, batch, rng):
        return state, {}

    def eval_step(self, state, batch, rng):
        count = batch["mask"].sum()
        return {"x": state * jnp.where(batch["mask"], batch["x"], 0.0).sum(), "count": count}

    def finish(self, sums):
        return {"loss": float(sums["x"] / sums["count"])}

    def figures(self, state, batch, rng):
        return {"inputs": batch["x"][:, None, None, None] + jnp.zeros((1, 60, 60, 1))}


def evaluator(sink, count=100, task=None, **options):
    x = np.arange(count, dtype=np.float32)
    data = Data(Split({"x": x}, count, "numbers"), {"x": x}, {})
    experiment = experiment_of(task or Mean())
    metrics = MetricsWriter([sink])
    return Evaluator(experiment, data, split="test", batch_size=70, metrics=metrics, **options)


def test_metrics_scores_and_figures_are_written():
    monitor = Monitor(frozenset({"fid"}), lambda state: {"fid": 10 * float(state)})
    sink = Recording()
    values, replacement = evaluator(sink, monitor=monitor)(jnp.ones(()), 3)
    assert (values, replacement) == ({"loss": 49.5, "fid": 10.0}, None)
    assert sink.calls[0] == (3, "test", values)
    # 64 pictures, as 8 x 8 tiles
    assert sink.calls[1][:3] == (3, "inputs", (8 * 61 - 1, 8 * 61 - 1, 3))


def test_the_metrics_are_those_of_the_state_to_go_on_with():
    sink, checked = Recording(), []

    def check(values, step):
        checked.append((values["loss"], step))
        return jnp.full((), 2.0)

    values, replacement = evaluator(sink, check_collapse=check)(jnp.ones(()), 7)
    assert (values, float(replacement)) == ({"loss": 99.0}, 2.0)
    assert checked == [(49.5, 7)]
    lines = [call for call in sink.calls if call[1] == "test"]
    assert lines == [(7, "test", {"loss": 49.5}), (7, "test", {"loss": 99.0})]


def test_without_check_and_monitor_a_state_is_evaluated_alone():
    assert evaluator(Recording(), count=10)(jnp.ones(()), 1) == ({"loss": 4.5}, None)


def test_no_empty_pictures_are_shown_for_a_small_split():
    sink = Recording()
    evaluator(sink, count=3)(jnp.ones(()), 1)
    assert sink.calls[1][2] == (2 * 61 - 1, 2 * 61 - 1, 3)  # 3 pictures, as 2 x 2 tiles


class Scored(Mean):
    """As `Mean`, with a score for each example, and figures in parts."""

    def eval_step(self, state, batch, rng):
        rows = jnp.stack([jnp.sin(batch["x"]), jnp.ones_like(batch["x"])], -1)
        rows = jnp.where(batch["mask"][:, None], rows, 0.0)
        table = jnp.zeros((4096, 2)).at[batch["index"]].add(rows)
        return super().eval_step(state, batch, rng) | {"example_scores": {"height": table}}

    def figures(self, state, batch, rng):
        image = jnp.zeros((len(batch["x"]), 20, 30, 1)) + batch["x"][:, None, None, None] / 256
        return {"values/image": image, "index": image}


def test_the_worst_typical_and_best_examples_are_shown(monkeypatch):
    shown = []
    monkeypatch.setattr(
        MetricsWriter, "write_images", lambda self, step, images: shown.append(images)
    )
    values, _ = evaluator(Recording(), task=Scored())(jnp.ones(()), 3)
    assert values == {"loss": 49.5}
    (images,) = shown
    order = np.argsort(np.sin(np.arange(100, dtype=np.float32)))
    wanted = order[[0, 1, 2, 48, 49, 50, 98, 99]]
    np.testing.assert_allclose(images["index"][:, 0, 0, 0] * 256, wanted)
    assert images["values"].dtype == np.uint8
    assert images["values"].shape[0] == 1


def test_a_step_may_become_the_best_where_the_rule_holds():
    assert passes("", {})
    assert passes("fid <= 3", {"fid": 3.0})
    assert not passes("fid <= 3", {"fid": 4.0})
