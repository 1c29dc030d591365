"""python -m launch.audit --config=configs/rnn.py, or --workdir=runs/rnn

Checks the promises of any generative model, yours too: causality, probabilities that sum
to one, a sampler that agrees with them, units, samples by seed. Prints a table; exits with
1 if a check fails.
"""

import logging

from ml_collections import ConfigDict

from launch import cli
from launch.audits import checks
from launch.audits.checks import FAIL, NONE, PASS, Finding
from launch.audits.enumeration import total_probability
from launch.audits.fixtures import AuditedModel, ModelFactory, first_that_fits, fit_for_audit
from launch.config import loading
from launch.config.errors import CommandExit, UserError
from launch.data import batches
from launch.engine import experiments, sharding, trained_runs, validate
from launch.inference import flags

logger = logging.getLogger("segen")

# Values of an image up to which causality is checked at the image's own size; a larger
# image is audited at the first of the sizes (H, W) in SMALL that the net can make.
MOST_VALUES = 1024
SMALL = ((8, 8), (16, 16))


def main(argv: list[str]) -> None:
    """Audits a config or a run.

    Args:
      argv: arguments of the command line, without the command's own name.

    Raises:
      UserError: not one of --config and --workdir, or no generative task.
      CommandExit: a check failed.
    """
    arguments = cli.parser("audit", "Checks a generative model; exit code 1 if a check fails.")
    add = arguments.add_argument
    add("--config", default="", help="FILE.py or FILE.py:VARIANT: untrained, perturbed parameters")
    add("--workdir", type=cli.workdir, help="a run: its trained parameters, where they fit")
    flags.add_step(add)
    options, overrides = cli.parse(arguments, argv)
    if bool(options.config) == bool(options.workdir):
        raise UserError("give either --config or --workdir")
    if options.step is not None and not options.workdir:
        raise UserError("--step is a checkpoint of a run; give --workdir")
    sharding.set_up_jax()
    if options.workdir:
        factory = of_run(trained_runs.restore(options.workdir, overrides, options.step, None))
    else:
        factory = of_config(loading.override(loading.load(options.config), overrides))
    findings = audit(factory)
    print(table(findings))
    outcomes = [one.outcome for one in findings]
    counts = ", ".join(f"{outcomes.count(o)} {o}" for o in (PASS, FAIL, NONE) if o in outcomes)
    if FAIL in outcomes:
        raise CommandExit(f"the audit of {factory.config.task.name} failed: {counts}")
    logger.info(counts)


def of_config(config: ConfigDict) -> ModelFactory:
    """Makes models of a config, with fresh parameters.

    Args:
      config: a complete, checked config.

    Raises:
      UserError: the data cannot be opened.
    """
    data = batches.open_data(config.data, config.data.split, "config.data")
    config = experiments.with_classes(config, data.split)
    return ModelFactory(fit_for_audit(config, keep_ema=False), data)


def of_run(restored: trained_runs.Restored) -> ModelFactory:
    """Makes models of a run, with its parameters where they fit."""
    config = fit_for_audit(restored.config, keep_ema=True)
    return ModelFactory(config, restored.data, restored.state)


def audit(factory: ModelFactory) -> list[Finding]:
    """Runs every check on the parameters of the run if there is one, and on fresh ones.

    Args:
      factory: makes the models.

    Raises:
      UserError: the task breaks its contract, or generates nothing.
    """
    own = factory.at()
    name = factory.config.task.name
    validate.validate_task(own.task, batches.batch_spec(own.example, 4), name)
    if own.task.sample is None and own.task.complete is None and own.task.log_prob is None:
        raise UserError(
            f"{name} is no generative task: it has no sample(), complete() or log_prob()"
        )
    logger.info(f"auditing {name}: {own.title}")
    unit, offset = checks.units(own)
    findings = [
        _causality(factory, own),
        unit,
        checks.by_seed(own),
        checks.evaluation(own),
        checks.step(own),
    ]
    for untrained in (True,) if factory.trained is None else (True, False):
        findings += total_probability(factory, untrained, offset)
    return findings


def _causality(factory: ModelFactory, own: AuditedModel) -> Finding:
    """The check of causality, at a smaller size for large images."""
    if own.task.conditionals is None:
        why = "not autoregressive: the task has no conditionals()"
        return Finding("causality", own.title, NONE, why)
    height, width, channels = own.shape
    if height * width * channels <= MOST_VALUES:
        return checks.causality(own)
    model, reason = first_that_fits(factory, [(*size, channels) for size in SMALL])
    if model is None:
        return Finding("causality", own.title, NONE, f"too large, and {reason}")
    return checks.causality(model)


def table(findings: list[Finding]) -> str:
    """Findings as aligned lines: outcome, check, model, detail."""
    checked, on = (max(map(len, column)) for column in list(zip(*findings, strict=True))[:2])
    return "\n".join(
        f"{one.outcome:<5} {one.check:<{checked}}  {one.on:<{on}}  {one.detail}" for one in findings
    )


if __name__ == "__main__":
    cli.run(main)
