"""The audit passes a correct model and catches each fault that is built into one."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from jaxgen import batches as of_task
from jaxgen import likelihoods
from jaxgen.likelihood_training import State
from jaxgen.noise import per_example
from jaxgen.task import Task
from launch import audit, train
from launch.audits import checks, enumeration
from launch.config import loading
from launch.config.errors import CommandExit, UserError

BERNOULLI = likelihoods.bernoulli()


def images(split, shape=(4, 3, 1)):
    rng = np.random.default_rng(len(split))
    count = (8, *shape)
    return {"image": rng.integers(0, 256, count).astype(np.uint8), "label": np.arange(8) % 3}


def autoregressive(optimizer, example, levels=2, classes=0, means=False, fault=""):
    """Logistic regressions of each value on those before; a `fault` breaks one promise."""
    shape = example["image"].shape
    size, ids = int(np.prod(shape)), max(classes, 1)
    mask = np.tril(np.ones((size, size)), 0 if fault == "sees itself" else -1)
    if fault == "sees the end":
        mask[0, -1] = 1e-6

    def conditionals(state, x, batch):
        flat = x.reshape(len(x), size)
        steps = jnp.round(flat[:, -1:]) if fault == "rounded end" else 0.0
        hidden = jnp.tanh(flat @ (state.params["w"] * mask).T + steps)
        label = batch["label"] if classes else jnp.zeros(len(x), int)
        shift = state.params["shift"][jnp.minimum(label, ids - 1)]
        logits = hidden[..., None] * state.params["scale"] + shift[:, None] + state.params["b"]
        return logits.reshape(len(x), *shape, levels)

    def observe(batch, rng):
        if levels == 2:
            return BERNOULLI.observe(batch["image"], jax.random.fold_in(rng, 0), batch["index"])
        return batch["image"] / (levels - 1.0)

    def log_prob(state, batch, rng):
        x = observe(batch, rng)
        chosen = jnp.round(x * (levels - 1)).astype(int)[..., None]
        log = jax.nn.log_softmax(conditionals(state, x, batch))
        total = jnp.take_along_axis(log, chosen, -1).sum((1, 2, 3, 4))
        return 0.9 * total if fault == "not normalised" else total

    def sample(state, batch, rng):
        draw = lambda key: jax.random.gumbel(key, (size, levels))
        noise = per_example(draw, rng, batch["index"])
        if fault == "place in the batch":
            noise = jax.random.gumbel(rng, noise.shape)
        if fault == "one image":
            noise = 0 * noise
        factor = 0.5 if fault == "too random" else 1.0

        def fill(place, both):
            x, shown = both
            logits = factor * conditionals(state, x, batch).reshape(len(x), size, levels)[:, place]
            chosen = jnp.argmax(logits + noise[:, place], -1) / (levels - 1)
            mean = jax.nn.softmax(logits) @ jnp.linspace(0, 1, levels)
            put = lambda x, value: x.reshape(len(x), size).at[:, place].set(value).reshape(x.shape)
            return put(x, chosen), put(shown, mean if means else chosen)

        blank = jnp.zeros((len(batch["index"]), *shape))
        return jax.lax.fori_loop(0, size, fill, (blank, blank))[1]

    def sums(state, batch, rng):
        nll = -log_prob(state, batch, rng)
        if fault == "means":
            return {"nll": nll.mean(), "count": jnp.ones(())}
        return of_task.masked_sums({"nll": nll}, batch["mask"])

    def init(rng, batch):
        params = {
            "w": jax.random.normal(rng, (size, size)),
            "scale": jnp.ones((1, levels)),
            "shift": jnp.zeros((ids, levels)),
            "b": jnp.zeros((size, levels)),
        }
        return State(params, optimizer.init(params))

    def train_step(state, batch, rng):
        loss = lambda params: sums(state._replace(params=params), batch, rng)["nll"]
        grads = jax.grad(loss)(state.params)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        found = sums(state, batch, rng)
        found["nll"] += jnp.nan if fault == "no number" else 0.0
        return State(optax.apply_updates(state.params, updates), opt_state), found

    def finish(sums):
        nats = float(sums["nll"] / sums["count"])
        base = 10.0 if fault == "decimal digits" else 2.0
        return {"loss": nats, "nll": nats, "bits_per_dim": nats / (size * np.log(base))}

    given = lambda state, batch, rng: {"images": batch["image"]}
    return Task(
        init,
        train_step,
        sums,
        finish,
        given,
        sample=sample,
        log_prob=log_prob,
        conditionals=conditionals,
    )


def config(**task):
    """A config of the task above."""
    name = {"name": "tests.launch.test_audit:autoregressive"}
    return loading.complete(
        ConfigDict(
            {
                "task": name | task,
                "optimizer": {"name": "optax:sgd", "learning_rate": 1e-3, "ema": 0.9},
                "data": {"name": "tests.launch.test_audit:images", "batch_size": 4},
                "train": {"steps": 2},
                "eval": {"every": 2},
                "mesh": {"data": 1},
            }
        ),
        "config",
    )


def built(**task):
    return audit.of_config(config(**task))


def verdicts(found):
    return {one.check: one.verdict for one in found}


@pytest.mark.parametrize("task", [{"means": True}, {"classes": 3}, {"levels": 256}])
def test_a_correct_model_passes_every_check(task):
    found = audit.audit(built(**task))
    assert set(verdicts(found).values()) == {"pass"}, audit.table(found)
    details = {one.check: one.detail for one in found}
    assert "sees all 66 earlier ones" in details["causality"]
    grid = "65,536 images of 1 x 2 in 256" if "levels" in task else "512 images of 3 x 3 in 2"
    assert details["sum to one"].startswith(grid)
    units = details["units"]
    assert ("all parameters zero: 8.0000" if "levels" in task else "1.0000") in units
    assert "over 12 dimensions" in units


@pytest.mark.parametrize(
    ("fault", "check", "message"),
    [
        ("sees itself", checks.causality, r"\(0, 0\) depends on \(0, 0\), slope .*; 12 such"),
        ("sees the end", checks.causality, r"\(0, 0\) depends on \(3, 2\), slope .*; 1 such"),
        ("rounded end", checks.causality, r"\(0, 0\) changes with what follows from "),
        ("place in the batch", checks.by_seed, r"the same seed in another batch differs by 1"),
        ("one image", checks.by_seed, r"13 seeds give one and the same image"),
        ("means", checks.evaluation, r"within .* \(\['"),
        ("no number", checks.step, r"the same to the bit; its sums are not finite"),
        ("decimal digits", lambda subject: checks.units(subject)[0], r"nats = .* bits/dim"),
    ],
)
def test_each_fault_of_a_task_is_caught(fault, check, message):
    found = check(built(fault=fault).at())
    assert found.verdict == checks.FAIL
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(found.detail)


@pytest.mark.parametrize(
    ("task", "wanted"),
    [
        ({"fault": "not normalised"}, {"sum to one": "FAIL"}),
        ({"fault": "sees itself"}, {"sum to one": "FAIL"}),
        ({"fault": "too random"}, {"sum to one": "pass", "sampler": "FAIL"}),
        ({"fault": "too random", "means": True}, {"sum to one": "pass", "sampler": "FAIL"}),
    ],
)
def test_each_fault_of_probabilities_is_caught(task, wanted):
    found = enumeration.total_probability(built(**task), True, 0.0)
    assert verdicts(found) == wanted, audit.table(found)


def test_chi_square_tells_a_loaded_die_and_clears_a_fair_one():
    rng = np.random.default_rng(0)
    loaded = np.array([0.14, 0.16, 0.16, 0.17, 0.17, 0.2])
    fair = np.full(6, 1 / 6)
    p_values = [enumeration.chi_square(rng.choice(6, 5000, p=fair), fair) for _ in range(200)]
    assert 0.02 < np.mean(np.array(p_values) < 0.1) < 0.2  # uniform, as p values must be
    assert enumeration.chi_square(rng.choice(6, 5000, p=loaded), fair) < 1e-4
    rare = np.r_[np.full(1000, 1e-5), 0.99]
    drawn = rng.choice(1001, 5000, p=rare)
    assert enumeration.chi_square(drawn, rare) > 1e-3
    assert enumeration.chi_square(np.where(drawn == 1000, 0, drawn), rare) < 1e-10


def test_means_tell_what_was_drawn_and_how_often():
    rng = np.random.default_rng(0)
    probability = rng.dirichlet(np.ones(8))
    table = probability.reshape(2, 2, 2)  # of the third, the second, the first value
    first = table[:, :, 1].sum() / table.sum()
    second = table[:, 1].sum(0) / table.sum((0, 1))
    third = table[1] / table.sum(0)
    rows = np.array([[first, second[n % 2], third[n // 2, n % 2]] for n in range(4)])
    grid = enumeration.Grid((1, 3, 1), (0, 255))
    drawn = rng.integers(0, 4, 50)
    found, weight = enumeration.conditional_means(rows[drawn], grid, probability)
    np.testing.assert_array_equal(found, drawn)
    np.testing.assert_allclose(weight, table.sum(0).reshape(-1))
    assert enumeration.conditional_means(rows[drawn] + 0.01, grid, probability)[0] is None


@pytest.mark.parametrize("likelihood", ["discretized_logistic", "gaussian"])
def test_the_bound_of_a_vae_is_audited_by_importance_samples(likelihood):
    vae = config()
    with vae.unlocked():
        vae.task = {
            "name": "jaxgen.vae:vae",
            "nll_samples": 300,
            "likelihood": {"name": f"jaxgen.likelihoods:{likelihood}"},
        }
        vae.model = {
            "encoder": {"name": "jaxgen.nets:MLPEncoder", "latents": 2, "widths": (16,)},
            "decoder": {"name": "jaxgen.nets:MLPDecoder", "widths": (16,)},
        }
        vae.optimizer.update({"name": "optax:adam", "learning_rate": 1e-2})
    builder = audit.of_config(vae)
    unit, offset = checks.units(builder.at())
    assert unit.verdict == "pass"
    assert offset == (8.0 if likelihood == "gaussian" else 0.0)
    (found,) = enumeration.total_probability(builder, True, offset)
    assert found.verdict == ("n/a" if likelihood == "gaussian" else "pass"), found.detail
    grid = {"discretized_logistic": "256 images of 1 x 1", "gaussian": "the model gives densities"}
    assert found.detail.startswith(grid[likelihood])


@pytest.fixture
def run(tmp_path):
    """A run whose images are as small as the grid."""
    small = config(classes=3)
    small.data.kwargs = {"shape": (3, 3, 1)}
    train.train(small, tmp_path / "run")
    return tmp_path / "run"


def test_a_run_is_audited_with_its_own_parameters_too(run, capsys):
    audit.main([f"--workdir={run}"])
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert all(line.startswith("pass") for line in lines), said.out
    assert sum("sum to one" in line and " trained, 3 x 3 x 1" in line for line in lines) == 1
    assert sum("sum to one" in line and "untrained, 3 x 3 x 1" in line for line in lines) == 1
    assert said.err.endswith("9 pass\n")


def test_a_failed_audit_exits_with_1(monkeypatch):
    monkeypatch.setattr(loading, "load", lambda spec: config(fault="decimal digits"))
    with pytest.raises(CommandExit, match=r"failed: 6 pass, 1 FAIL") as caught:
        audit.main(["--config=mine.py"])
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("arguments", [[], ["--config=a.py", "--workdir=b"]])
def test_one_thing_at_a_time_is_audited(arguments):
    with pytest.raises(UserError, match="give either --config or --workdir"):
        audit.main(arguments)


def test_what_generates_nothing_is_refused():
    builder = built()
    with builder.config.unlocked():
        builder.config.task.name = "tests.launch.test_audit:silent"
    with pytest.raises(UserError, match=r"silent is no generative task"):
        audit.audit(builder)


def silent(optimizer, example):
    return autoregressive(optimizer, example)._replace(sample=None, log_prob=None)


def test_a_sum_over_256_levels_tells_of_a_model_that_knows_fewer():
    (grid,) = enumeration.coarser(256.00003)
    assert (grid.shape, len(grid.levels)) == ((1, 2, 1), 16)
    assert (grid.levels[0], grid.levels[5], grid.levels[-1]) == (0, 85, 255)
    (grid,) = enumeration.coarser(4.0)
    # Each is another level of 128, as `pixel_likelihoods.softmax` rounds.
    assert sorted(level * 128 // 256 for level in grid.levels) == list(range(128))
    assert enumeration.coarser(0.98) == enumeration.coarser(float("inf")) == []
