"""python -m launch.audit --config=configs/rnn.py, or --workdir=runs/rnn

Checks the promises of any generative model, yours too: causality, probabilities that sum
to one, a sampler that agrees with them, units, samples by seed. Prints a table; exits with
1 if a check fails.
"""

import logging
from functools import partial

import jax
from ml_collections import ConfigDict

from launch import cli, distributed
from launch.audits import checks
from launch.audits.checks import FAIL, NONE, PASS, Finding
from launch.audits.density import density
from launch.audits.enumeration import total_probability
from launch.audits.fixtures import AuditedModel, ModelFactory, first_that_fits, fit_for_audit
from launch.audits.guidance import guidance
from launch.config import loading, run_config
from launch.config.errors import CommandExit, UserError
from launch.data import batches
from launch.distributed import shares
from launch.engine import experiments, trained_runs, validate
from launch.inference import flags

logger = logging.getLogger("segen")

# Values of an image up to which causality is checked at the image's own size; a larger
# image is audited at the first of the sizes (H, W) in SMALL that the net can make.
MOST_VALUES = 1024
SMALL = ((8, 8), (16, 16))
CHECKS = checks.by_seed, checks.evaluation, checks.step  # those of one model alone


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
    distributed.add_arguments(arguments)
    options, overrides = cli.parse(arguments, argv)
    if bool(options.config) == bool(options.workdir):
        raise UserError("give either --config or --workdir")
    if options.step is not None and not options.workdir:
        raise UserError("--step is a checkpoint of a run; give --workdir")
    with cli.together(options) as group:
        if options.workdir:
            run = options.workdir, overrides, options.step, None
            factory = of_run(trained_runs.restore(*run, group=group, local=True))
        else:
            config = loading.override(loading.load(options.config), overrides)
            factory = of_config(config, group)
        _report(audit(factory, group), factory.config.task.name, group)


def _report(findings, name, group):
    """Prints a table on process 0; raises CommandExit on all if a check failed."""
    if group.is_process_zero:
        print(table(findings))
    outcomes = [one.outcome for one in findings]
    counts = ", ".join(f"{outcomes.count(o)} {o}" for o in (PASS, FAIL, NONE) if o in outcomes)
    if FAIL in outcomes:
        raise CommandExit(f"the audit of {name} failed: {counts}")
    logger.info(counts)


def of_config(config: ConfigDict, group: distributed.Group = distributed.ALONE) -> ModelFactory:
    """Makes models of a config, with fresh parameters.

    Args:
      config: a complete, checked config.
      group: the processes that call this together.

    Raises:
      UserError: the data cannot be opened, or processes differ.
    """
    group.check_same("the config", run_config.shared_keys(config.to_dict()))
    data = trained_runs.open_together(group, config.data, config.data.split, "config.data")
    config = experiments.with_classes(config, data.split)
    return ModelFactory(fit_for_audit(config, keep_ema=False), data)


def of_run(restored: trained_runs.Restored) -> ModelFactory:
    """Makes models of a run, with its parameters where they fit."""
    config = fit_for_audit(restored.config, keep_ema=True)
    return ModelFactory(config, restored.data, restored.state)


# Otherwise GPUs and TPUs round the factors of products, for each size of batch in another way.
@jax.default_matmul_precision("highest")
def audit(factory: ModelFactory, group: distributed.Group = distributed.ALONE) -> list[Finding]:
    """Runs every check on the parameters of the run if there is one, and on fresh ones.

    Products are in full float32 on every device.

    Args:
      factory: makes the models, on the devices of this process.
      group: the processes, which share the checks out.

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
    jobs = [
        lambda: [_causality(factory, own)],
        lambda: [unit],
        *(lambda check=check: [check(own)] for check in CHECKS),
        partial(total_probability, factory, True, offset),
        partial(density, factory, own),
        partial(guidance, factory, own),
    ]
    if factory.trained is not None:
        jobs.append(partial(total_probability, factory, False, offset))
    done = [job() for job in shares.own(group, jobs)]
    done = shares.in_order(group, "the checks", done, len(jobs))
    return [Finding(*one) for findings in done for one in findings]


def _causality(factory: ModelFactory, own: AuditedModel) -> Finding:
    """The check of causality, at a smaller size for large images."""
    if own.task.conditionals is None:
        why = "the task has no conditionals()"
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
