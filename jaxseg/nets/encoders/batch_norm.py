"""Batch norms (Ioffe and Szegedy 2015) whose statistics can be frozen."""

from typing import Any

import flax.linen as nn

from jaxseg.nets.encoders.naming import Rule


def batch_norm(
    train: bool, frozen: bool, epsilon: float, dtype: Any, name: str, momentum: float = 0.9
) -> nn.BatchNorm:
    """Makes a batch norm.

    Args:
      train: whether the net is trained.
      frozen: whether training uses the running statistics too, and leaves them as they are.
      epsilon: added to variances.
      dtype: of the computation.
      name: of the module.
      momentum: share of the old running statistics that a step keeps.
    """
    return nn.BatchNorm(
        not train or frozen, momentum=momentum, epsilon=epsilon, dtype=dtype, name=name
    )


def batch_norm_rules(pattern: str, path: str) -> tuple[Rule, ...]:
    """Rules for the four tensors of a batch norm.

    Args:
      pattern: regular expression of the layer in a file.
      path: of its module, as "stage0_block1/norm2".
    """
    return (
        Rule(rf"{pattern}\.weight", f"params/{path}/scale"),
        Rule(rf"{pattern}\.bias", f"params/{path}/bias"),
        Rule(rf"{pattern}\.running_mean", f"batch_stats/{path}/mean"),
        Rule(rf"{pattern}\.running_var", f"batch_stats/{path}/var"),
    )
