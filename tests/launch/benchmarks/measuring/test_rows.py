from launch.benchmarks.measuring import plan, rows

VERSIONS = {"segen": "0.2", "jax": "0.10"}
CARD = "1 x NVIDIA H100"


def one(name):
    return plan.choose(name)[0]


RUN = {"parts": 3, "trained_on": ["1 x A", "1 x B"], "training_seconds": 1230.0}
RESULTS = {
    one("correctness/losses-vae"): {
        "first": 1.2e-7,
        "largest": 2.34e-6,
        "steps": 20,
        "passed": True,
    },
    one("correctness/losses-unet"): {"first": 0.5, "largest": 0.6, "steps": 20, "passed": False},
    one("correctness/audit-rnn"): {
        "passed": False,
        "counts": {"FAIL": 1, "pass": 6},
        "failures": ["causality  8 x 8  leaks"],
    },
    one("correctness/repeat-vae"): {"steps": 50, "passed": True},
    one("correctness/repeat-unet"): {"steps": 50, "passed": False},
    one("throughput/vae"): {
        "bare_steps_per_second": 12345.6,
        "loop_steps_per_second": 12000.0,
        "loop_to_bare": 0.972,
        "data_wait": 0.001,
        "model_flops_utilisation": 0.4321,
    },
    one("throughput/pixelcnn"): {},
    one("throughput/gan-any-order"): {},
    one("runs/iwae"): RUN | {"nll": 84.777, "negative_elbo": 86.0},
    one("runs/flow_cifar10"): RUN | {"fid": 4.5, "nll_bits_per_dim": 3.125, "step": 31_400},
    one("runs/gan_mnist-0"): RUN | {"fid": 1.0},
    one("runs/gan_mnist-1"): RUN | {"fid": 2.0},
    one("runs/gan_mnist_hinge-0"): RUN | {"fid": 9.0},
}


def table():
    return rows.tables(RESULTS, CARD, VERSIONS, False).splitlines()


def row(*words):
    (found,) = [line for line in table() if all(word in line for word in words)]
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_checks_in_words():
    assert table()[0] == "## 1 x NVIDIA H100, segen 0.2, jax 0.10"
    vae, unet = (row("against the CPU", name)[2] for name in ("`vae.py`", "`unet.py`"))
    assert "1.2e-07 at the first step, at most 2.3e-06 in 20 steps, within 1e-04 and 1e-02" in vae
    assert "6.0e-01 in 20 steps, **NOT** within 1e-04 and 1e-02" in unet
    assert row("audit", "`rnn.py`")[2].startswith("1 FAIL, 6 pass; ")
    assert row("audit", "`rnn.py`")[2].endswith("causality  8 x 8  leaks")
    assert row("two runs", "`vae.py`")[2] == "the same bits after 50 steps"
    assert row("two runs", "`unet.py`")[2] == "**other bits** after 50 steps"


def test_rates_and_what_is_not_known():
    titles = row("bare, steps/s")
    found = dict(zip(titles, row("`vae.py`", "1.235e+04"), strict=True))
    assert found["loop : bare"] == "0.972"
    assert found["data wait"] == "0.10 %"
    assert found["MFU"] == "43.21 %"
    assert found["peak memory, MiB"] == "not known"
    assert row("`gan.py`")[0] == "`gan.py`, `--xla_gpu_deterministic_ops=false`"
    assert row("gpu_pixelcnn")[0] == "`rnn.py:gpu_pixelcnn`, evaluated and saved more often"


def test_runs_with_their_aims_and_cards():
    assert row("mnist_iwae") == [
        "`vae.py:mnist_iwae`, that net, k = 50, DReG gradients",
        "nll **84.78**, negative_elbo **86**",
        "84.8 nats",
        "1 x A, 1 x B; 20 min in 3 parts",
    ]


def test_a_run_that_the_clock_ended_says_its_steps_beside_published_figures():
    _, result, aim, time = row("`flow.py:cifar10`, U-Net")
    assert result.startswith("fid **4.5**, nll_bits_per_dim **3.125**, noise_std **not known**")
    assert aim.startswith("FID 1.97 (EDM), 2.07 (Meta's flow matching)")
    assert time == "1 x A, 1 x B; 20 min in 3 parts, 31,400 steps"


def test_the_losses_of_gans_are_compared_over_seeds():
    assert row("`gan.py:mnist`", "1 to 2") == ["`gan.py:mnist`", "2", "1.5", "1 to 2"]
    assert not [line for line in table() if line.startswith("| `gan.py:mnist_hinge` |")]


def test_every_row_of_a_dry_run_says_so():
    lines = rows.tables(RESULTS, "1 x cpu", VERSIONS, True).splitlines()
    assert lines[0].startswith("## DRY RUN, NO RESULTS: ")
    for line in lines[1:]:
        title = line in table() and not line.startswith("| dry")
        assert not line or title or line.startswith("| dry run, no result: "), line
    assert sum(line.startswith("| dry run, no result: ") for line in lines) == len(RESULTS) + 1


def test_nothing_done_is_nothing_to_print():
    assert rows.tables({}, CARD, VERSIONS, False) == ""
