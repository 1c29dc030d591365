from types import SimpleNamespace

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxgen.batches import ema_params
from jaxgen.likelihood_training import State
from launch.config.errors import UserError
from launch.engine import optimizer
from launch.inference import averages

ADAM = {"name": "optax:adam", "learning_rate": 1e-3}


def state_of(ema):
    """A state whose averages are all different from its parameters."""
    section = ConfigDict(ADAM | {"ema": ema})
    params = {"w": np.ones(2)}
    made = optimizer.build(section)[0]["optimizer"]
    opt_state = made.init(params)
    for step in range(30):
        updates, opt_state = made.update({"w": np.ones(2)}, opt_state, params)
        params = {"w": params["w"] + updates["w"] * (1 + step)}
    return section, State(params, opt_state)


def test_each_average_is_used_by_its_decay():
    section, state = state_of((0.9, 0.5))
    assert averages.names(section) == ["0.9", "0.5", "none"]
    used = {
        name: ema_params((found := averages.pick(state, section, name)).opt_state, found.params)[
            "w"
        ][0]
        for name in averages.names(section)
    }
    # The parameters rise; a shorter average is nearer to the last ones.
    assert used["none"] == state.params["w"][0]
    assert abs(used["0.5"] - used["none"]) < abs(used["0.9"] - used["none"])
    only = averages.pick(state_of(0.5)[1], state_of(0.5)[0], "0.5")
    np.testing.assert_allclose(used["0.5"], ema_params(only.opt_state, None)["w"][0], rtol=1e-6)


def test_several_optimisers_are_looked_up_by_their_nets():
    section, one = state_of((0.9, 0.5))
    both = ConfigDict({"generator": section, "discriminator": ADAM})
    plain = optimizer.build(ConfigDict(ADAM))[0]["optimizer"].init(one.params)
    params = {"generator": one.params, "discriminator": one.params}
    state = State(params, {"generator": one.opt_state, "discriminator": plain})
    assert averages.names(both) == ["0.9", "0.5", "none"]
    found = averages.pick(state, both, "0.5")
    wanted = averages.pick(one, section, "0.5")
    ema = ema_params(found.opt_state["generator"], None)["w"]
    np.testing.assert_array_equal(ema, ema_params(wanted.opt_state, None)["w"])


def test_what_a_run_does_not_keep_is_refused():
    section, state = state_of((0.9, 0.5))
    assert averages.chosen(section, "all") == ["0.9", "0.5", "none"]
    assert averages.chosen(section, "none, 0.9") == ["none", "0.9"]
    assert averages.chosen(section, "") == [""]
    assert averages.chosen(section, "power:0.1,0.9") == ["power:0.1", "0.9"]
    with pytest.raises(UserError, match="power:2: give a width"):
        averages.chosen(section, "power:2")
    with pytest.raises(UserError, match=r"--ema=0.99: the run keeps 0.9, 0.5, none"):
        averages.chosen(section, "0.99")
    run = SimpleNamespace(config=SimpleNamespace(optimizer=section), state=state)
    with pytest.raises(UserError, match=r"--ema=all: give one of 0.9, 0.5, none"):
        averages.restored(run, None, "all")
    assert averages.restored(run, None, "") is run


def test_a_run_without_an_average_cannot_be_guided():
    section = ConfigDict(ADAM)
    task = ConfigDict({"sampling": {"guidance": 1.0, "autoguidance": False}})
    run = SimpleNamespace(config=SimpleNamespace(optimizer=section, task=task))
    assert averages.names(section) == ["none"]
    with pytest.raises(UserError, match="no effect with a guidance of 1"):
        averages.guided(run, "runs/other")
    task.sampling.guidance = 2.0
    with pytest.raises(UserError, match="keeps no moving average"):
        averages.guided(run, "runs/other")
    assert averages.guided(run, None) is run


def test_a_flow_of_another_kind_does_not_guide(monkeypatch, caplog):
    def run(side=8, levels=0, path="", **sampling):
        config = ConfigDict({"optimizer": ADAM | {"ema": 0.9}, "model": {"width": 8}})
        config.task = {"levels": levels, "sampling": {"guidance": 2.0, **sampling}}
        config.data = {"name": "digits", "path": path}
        image = jax.ShapeDtypeStruct((side, side, 1), np.uint8)
        experiment = SimpleNamespace(example={"image": image})
        return averages.trained_runs.Restored(config, None, experiment, state_of(0.9)[1], 7)

    weaker = run(guidance=1.0, path="dogs", sampler={"name": "jaxgen.flows:sde"})
    monkeypatch.setattr(averages.trained_runs, "restore", lambda *_, **__: weaker)
    found = averages.guided(run(autoguidance=True, path="./dogs"), "runs/weaker:5")
    assert found.weaker.endswith("runs/weaker:7")
    wanted = ema_params(weaker.state.opt_state, None)
    np.testing.assert_array_equal(found.state.params["w"], wanted["w"])
    assert not caplog.text
    averages.guided(run(path="cats"), "runs/weaker")
    assert "was trained on the images in dogs, the run on those in cats" in caplog.text
    with pytest.raises(UserError, match=r"its config.task.levels is 0, that of the run 256"):
        averages.guided(run(levels=256), "runs/weaker")
    with pytest.raises(UserError, match=r"its config.data.image is \(8, 8, 1\), .* \(16, 16, 1\)"):
        averages.guided(run(side=16), "runs/weaker")
    with pytest.raises(UserError, match="autoguidance needs --weaker"):
        averages.guided(run(autoguidance=True), None)
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"^--weaker=runs/none: no such directory"):
        averages.guided(run(), "runs/none")
