"""python -m launch.audit --config=configs/rnn.py, or --workdir=runs/rnn

Checks what any generative model promises, a user's own too: causality, probabilities
that sum to one, a sampler that agrees with them, units, samples by seed. Prints a
table; exits with 1 if a check fails.
"""

import logging

from launch import cli
from launch.audits.checks import (
    FAIL,
    NONE,
    PASS,
    Finding,
    by_seed,
    causality,
    evaluation,
    step,
    units,
)
from launch.audits.enumeration import total_probability
from launch.audits.fixtures import AuditedModel, ModelFactory, first_that_fits, fit_for_audit
from launch.config import loading
from launch.config.errors import CommandExit, UserError
from launch.data import batches
from launch.engine import experiments, sharding, trained_runs, validate

logger = logging.getLogger("segen")

# Values of an image up to which every one is followed through the Jacobian; larger
# images are audited at one of these sizes.
MOST_VALUES = 1024
SMALL = ((8, 8), (16, 16))


def main(argv: list[str]) -> None:
    """Parses the command line and audits."""
    arguments = cli.parser("audit", "Checks what a generative model promises; 1 if a check fails.")
    add = arguments.add_argument
    add("--config", default="", help="FILE.py or FILE.py:VARIANT: untrained, perturbed parameters")
    add("--workdir", type=cli.workdir, help="a run: its trained parameters, where they fit")
    add("--step", type=int, help="which checkpoint (default: the newest)")
    options, overrides = cli.parse(arguments, argv)
    if bool(options.config) == bool(options.workdir):
        raise UserError("give either --config or --workdir")
    sharding.set_up_jax()
    if options.workdir:
        builder = of_run(trained_runs.restore(options.workdir, overrides, options.step, None))
    else:
        builder = of_config(loading.override(loading.load(options.config), overrides))
    found = audit(builder)
    print(table(found))
    verdicts = [one.verdict for one in found]
    count = ", ".join(f"{verdicts.count(v)} {v}" for v in (PASS, FAIL, NONE) if v in verdicts)
    if FAIL in verdicts:
        raise CommandExit(f"the audit of {builder.config.task.name} failed: {count}")
    logger.info(count)


def of_config(config) -> ModelFactory:
    """What to audit of a config alone."""
    data = batches.open_data(config.data, config.data.split, "config.data")
    config = experiments.with_classes(config, data.split)
    return ModelFactory(fit_for_audit(config, average=False), data)


def of_run(restored: trained_runs.Restored) -> ModelFactory:
    """What to audit of a trained run."""
    return ModelFactory(fit_for_audit(restored.config, average=True), restored.data, restored.state)


def audit(builder: ModelFactory) -> list[Finding]:
    """Every check, on the run's own parameters and on fresh ones, each where it can be.

    Raises:
      UserError: the task breaks its contract, or generates nothing.
    """
    own = builder.at()
    name = builder.config.task.name
    validate.validate_task(own.task, batches.batch_spec(own.example, 4), name)
    if own.task.sample is None and own.task.complete is None and own.task.log_prob is None:
        raise UserError(
            f"{name} is no generative task: it has no sample(), complete() or log_prob()"
        )
    logger.info(f"auditing {name}: {own.title}")
    unit, offset = units(own)
    found = [_causality(builder, own), unit, by_seed(own), evaluation(own), step(own)]
    for untrained in (True, False)[: 1 if builder.trained is None else 2]:
        found += total_probability(builder, untrained, offset)
    return found


def _causality(builder: ModelFactory, own: AuditedModel) -> Finding:
    if own.task.conditionals is None:
        why = "not autoregressive: the task has no conditionals()"
        return Finding("causality", own.title, NONE, why)
    height, width, channels = own.shape
    if height * width * channels <= MOST_VALUES:
        return causality(own)
    subject, reason = first_that_fits(builder, [(*size, channels) for size in SMALL])
    if subject is None:
        return Finding("causality", own.title, NONE, f"too large, and {reason}")
    return causality(subject)


def table(found: list[Finding]) -> str:
    """Findings as aligned lines."""
    wide = max(len(one.check) for one in found), max(len(one.on) for one in found)
    line = lambda one: f"{one.verdict:<5} {one.check:<{wide[0]}}  {one.on:<{wide[1]}}  {one.detail}"
    return "\n".join(map(line, found))


if __name__ == "__main__":
    cli.run(main)
