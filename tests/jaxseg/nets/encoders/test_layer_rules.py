from jaxseg.nets.encoders.layer_rules import layer_rules
from jaxseg.nets.encoders.naming import Rule


def test_a_layer_has_a_weight_and_a_bias():
    assert layer_rules({r"fc(\d)": r"dense\1/kernel"}, prefix=r"net\.", part=(1, 2)) == (
        Rule(r"net\.fc(\d)\.weight", r"params/dense\1/kernel", (1, 2)),
        Rule(r"net\.fc(\d)\.bias", r"params/dense\1/bias", (1, 2)),
    )


def test_layers_within_layers_keep_their_path():
    weight, bias = layer_rules({"norm": "block/norm/scale"})
    assert (weight.path, bias.path) == ("params/block/norm/scale", "params/block/norm/bias")
