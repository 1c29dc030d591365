"""Rules for layers whose two tensors a file calls weight and bias."""

from collections.abc import Mapping

from jaxseg.nets.encoders.naming import Rule


def layer_rules(
    table: Mapping[str, str], prefix: str = "", part: tuple[int, int] = (0, 1)
) -> tuple[Rule, ...]:
    """Writes two rules for each layer.

    Args:
      table: {regular expression of the layer in the file: what the weight fills, as
        "stem/kernel" or "norm/scale"}; the bias fills "bias" beside it.
      prefix: regular expression of what stands before all of these layers.
      part: see `Rule`.
    """
    rules = []
    for pattern, weight in table.items():
        layer = weight.rpartition("/")[0]
        rules.append(Rule(rf"{prefix}{pattern}\.weight", f"params/{weight}", part))
        rules.append(Rule(rf"{prefix}{pattern}\.bias", f"params/{layer}/bias", part))
    return tuple(rules)
