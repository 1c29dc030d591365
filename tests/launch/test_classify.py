"""Classes by the likelihoods of small conditional models, against exact ones."""

import json
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from launch import classify
from launch.config.errors import UserError
from tests.launch.exported import families

OPTIONS = {"draws": None, "examples": None, "batch_size": 3, "priors": "uniform"}


def options(**changes):
    return SimpleNamespace(**OPTIONS | changes)


def by_brightness(level, exact=True):
    """A run whose class 1 likes images brighter than `level`, class 0 darker ones."""
    restored = families.restored_of("pixels")

    def log_prob(state, batch, rng):
        bright = batch["image"].mean((1, 2, 3)) - level
        return jnp.where(batch["label"] == 1, bright, -bright) * 0.1

    functions = {"log_prob": log_prob if exact else None, "evidence": None if exact else log_prob}
    task = restored.experiment.task._replace(**functions)
    return restored._replace(experiment=restored.experiment._replace(task=task))


def rows(restored):
    split = restored.data.split
    images = np.stack([split[row]["image"] for row in range(split.size)])
    return images.mean((1, 2, 3)), np.array([split[row]["label"] for row in range(split.size)])


@pytest.mark.parametrize("exact", [True, False])
def test_the_most_probable_class_is_chosen(exact):
    bright, labels = rows(families.restored_of("pixels"))
    level = float(np.median(bright))
    draws = None if exact else 4
    found = classify.classify(by_brightness(level, exact), options(draws=draws))
    guess = (bright > level).astype(int)
    assert found["accuracy"] == np.mean(guess == labels)
    table = np.zeros((2, 2), int)
    np.add.at(table, (labels, guess), 1)
    assert found["confusion"] == table.tolist()
    assert found["draws"] == (1 if exact else 4)
    assert found["examples"] == 8


def test_a_trained_kind_of_model_gives_its_own_likelihood():
    restored = families.restored_of("pixels")
    found = classify.classify(restored, options(examples=5))
    assert found["examples"] == 5
    assert np.sum(found["confusion"]) == 5


def test_priors_move_the_decision():
    restored = by_brightness(0.0)  # all images look like class 1
    assert np.sum(classify.classify(restored, options())["confusion"], 0).tolist() == [0, 8]
    sure = classify.classify(restored, options(priors="1,0"))
    assert np.sum(sure["confusion"], 0).tolist() == [8, 0]
    assert classify.classify(restored, options(priors="training"))["priors"] == [0.5, 0.5]
    estimated = classify.classify(restored, options(priors="estimate"))["priors"]
    assert estimated[1] > 0.95


@pytest.mark.parametrize(
    ("priors", "words"),
    [("often", "write uniform"), ("1,2,3", "give 2 numbers"), ("-1,2", "none"), ("nan,1", "none")],
)
def test_priors_that_are_none_are_refused(priors, words):
    unread = by_brightness(0.0)
    task = unread.experiment.task._replace(log_prob=None, evidence=lambda *_: 1 / 0)
    unread = unread._replace(experiment=unread.experiment._replace(task=task))
    with pytest.raises(UserError, match=words):  # before any likelihood
        classify.classify(unread, options(priors=priors))


@pytest.mark.parametrize("label", [-1, 2])
def test_labels_that_are_no_class_are_refused(label, monkeypatch):
    restored = by_brightness(0.0)
    wrong = lambda data, key, count: np.full(count, label) if key == "label" else np.zeros(count)
    monkeypatch.setattr(classify, "_column", wrong)
    with pytest.raises(UserError, match=f"labels {label} to {label}; the model has classes 0 to 1"):
        classify.classify(restored, options())


def test_draws_of_an_exact_likelihood_are_refused():
    with pytest.raises(UserError, match="--draws has no effect"):
        classify.classify(by_brightness(0.0), options(draws=4))


def test_models_without_classes_or_likelihoods_are_refused():
    with pytest.raises(UserError, match="has no classes"):
        classify.classify(families.restored_of("vae"), options())
    restored = families.restored_of("gan")
    with pytest.raises(UserError, match="gives no likelihood"):
        classify.classify(restored, options())


def test_the_command_prints_and_writes_its_scores(tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(
        classify.trained_runs, "restore", lambda *given: asked.append(given) or by_brightness(9.0)
    )
    classify.main([f"--workdir={tmp_path}", "--examples=6", "--step=4", "--split=test"])
    assert asked == [(tmp_path, [], 4, "test")]
    printed = json.loads(capsys.readouterr().out)
    assert printed["examples"] == 6
    assert printed["likelihood"] == "binary"
    stem = "classify-00000004-split-test-examples-6"  # other options leave this file alone
    assert json.loads((tmp_path / "scores" / f"{stem}.json").read_text()) == printed
    classify.main([f"--workdir={tmp_path}", "--config.task.likelihood.name=jaxgen.flows:density"])
    assert (tmp_path / "scores" / "classify-00000004-likelihood-binary.json").exists()
    with pytest.raises(UserError, match="--draws must be at least 1"):
        classify.main([f"--workdir={tmp_path}", "--draws=0"])
