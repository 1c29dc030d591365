"""Reference nets with layer norms for `tests.tools.encoder_references`: see there."""

import re
from functools import partial

import torch
from torch.nn.functional import pad

# What a file calls the layers that a net of transformers 5 calls otherwise; transformers itself
# writes files by the first of each family. Names that become the same are joined.
DINOV2_FILE = [
    (r"attention\.q_proj", "attention.attention.query"),
    (r"attention\.k_proj", "attention.attention.key"),
    (r"attention\.v_proj", "attention.attention.value"),
    (r"attention\.o_proj", "attention.output.dense"),
]
DINOV2_ORIGINAL = [
    (r"attention\.[qkv]_proj", "attn.qkv"),
    (r"attention\.o_proj", "attn.proj"),
    (r"encoder\.layer", "blocks"),
    (r"layer_scale(\d)\.lambda1", r"ls\1.gamma"),
    (r"^layernorm", "norm"),
    (r"embeddings\.position_embeddings", "pos_embed"),
    (r"embeddings\.patch_embeddings\.projection", "patch_embed.proj"),
    (r"embeddings\.(\w+_tokens?)", r"\1"),
]
MIT_FILE = [
    (r"stages\.(\d+)\.patch_embeddings", r"encoder.patch_embeddings.\1"),
    (r"stages\.(\d+)\.blocks", r"encoder.block.\1"),
    (r"stages\.(\d+)\.layer_norm", r"encoder.layer_norm.\1"),
    (r"attention\.q_proj", "attention.self.query"),
    (r"attention\.k_proj", "attention.self.key"),
    (r"attention\.v_proj", "attention.self.value"),
    (r"attention\.sequence_reduction\.sequence_reduction", "attention.self.sr"),
    (r"attention\.sequence_reduction\.layer_norm", "attention.self.layer_norm"),
    (r"attention\.o_proj", "attention.output.dense"),
    (r"mlp\.fc", "mlp.dense"),
    (r"layernorm_before", "layer_norm_1"),
    (r"layernorm_after", "layer_norm_2"),
]
MIT_ORIGINAL = [
    *[(rf"stages\.{n}\.patch_embeddings", f"patch_embed{n + 1}") for n in range(4)],
    (r"(patch_embed\d)\.layer_norm", r"\1.norm"),
    *[(rf"stages\.{n}\.blocks", f"block{n + 1}") for n in range(4)],
    *[(rf"stages\.{n}\.layer_norm", f"norm{n + 1}") for n in range(4)],
    (r"attention\.q_proj", "attn.q"),
    (r"attention\.[kv]_proj", "attn.kv"),
    (r"attention\.sequence_reduction\.sequence_reduction", "attn.sr"),
    (r"attention\.sequence_reduction\.layer_norm", "attn.norm"),
    (r"attention\.o_proj", "attn.proj"),
    (r"layernorm_before", "norm1"),
    (r"layernorm_after", "norm2"),
]
CONVNEXT_ORIGINAL = [
    (r"^embeddings\.patch_embeddings", "downsample_layers.0.0"),
    (r"^embeddings\.layernorm", "downsample_layers.0.1"),
    (r"encoder\.stages\.(\d+)\.downsampling_layer", r"downsample_layers.\1"),
    (r"encoder\.stages\.(\d+)\.layers", r"stages.\1"),
    (r"layer_scale_parameter", "gamma"),
    (r"layernorm", "norm"),
]


class Renamed:
    """A net whose file has other names; a name can stand for several tensors of the net."""

    def __init__(self, net, rules):
        self.net = net
        self.names = {}
        for name in net.state_dict():
            new = name
            for pattern, replacement in rules:
                new = re.sub(pattern, replacement, new)
            self.names.setdefault(new, []).append(name)

    def state_dict(self):
        own = self.net.state_dict()
        return {new: torch.cat([own[name] for name in old]) for new, old in self.names.items()}

    def load_state_dict(self, tensors):
        own = self.net.state_dict()
        for new, old in self.names.items():
            for name, part in zip(old, torch.chunk(tensors[new], len(old)), strict=True):
                own[name].copy_(part)

    def eval(self):
        self.net.eval()


def renamed(net, rules, stages):
    """A net and its stages, with other names in its file."""
    return Renamed(net, rules), lambda outer, x: stages(outer.net, x)


def padded(stages, multiple, strides):
    """Stages of an image whose edges are repeated, as ours does; the maps cropped."""

    def inner(net, x):
        height, width = x.shape[2:]
        x = pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate")
        maps = stages(net, x)
        crop = lambda each, stride: each[..., : -(-height // stride), : -(-width // stride)]
        return [crop(each, stride) for each, stride in zip(maps, strides, strict=True)]

    return inner


def convnext(net, stem, stages):
    """A ConvNeXt, by functions that give its stem and its four stages."""

    def maps(net, x):
        x, found = stem(net)(x), []
        for stage in stages(net):
            x = stage(x)
            found.append(x)
        return found

    return net, padded(maps, 32, (4, 8, 16, 32))


def torchvision_convnext(widths=None):
    import torchvision

    net = torchvision.models.convnext_tiny(weights=None)
    if widths:
        Setting = torchvision.models.convnext.CNBlockConfig
        pairs = zip(widths, [*widths[1:], None], strict=True)
        net = torchvision.models.ConvNeXt([Setting(a, b, 1) for a, b in pairs], num_classes=4)
    pairs = lambda net: [net.features[1], *(net.features[n : n + 2] for n in (2, 4, 6))]
    return convnext(net, lambda net: net.features[0], pairs)


def timm_convnext(**options):
    import timm

    net = timm.create_model("convnext_tiny", pretrained=False, **options)
    return convnext(net, lambda net: net.stem, lambda net: net.stages)


def hf_convnext(names=(), **options):
    import transformers

    net = transformers.ConvNextModel(transformers.ConvNextConfig(**options))
    stages = lambda net: net.encoder.stages
    net, maps = convnext(net, lambda net: net.embeddings, stages)
    return renamed(net, names, maps)


def hf_mit(names=(), **options):
    import transformers

    net = transformers.SegformerModel(transformers.SegformerConfig(**options))
    maps = lambda net, x: net(x, output_hidden_states=True).hidden_states
    return renamed(net, names, maps)


def hf_dinov2(names=(), registers=0, layers=(-1,), **options):
    import transformers

    kind = "Dinov2WithRegisters" if registers else "Dinov2"
    if registers:
        options["num_register_tokens"] = registers
    config = getattr(transformers, f"{kind}Config")(patch_size=14, **options)
    net = getattr(transformers, f"{kind}Model")(config)

    def maps(net, x):
        found = []
        keep = lambda module, inputs, output: found.append(output)
        hooks = [net.encoder.layer[n].register_forward_hook(keep) for n in layers]
        net(x)
        for hook in hooks:
            hook.remove()
        grid = x.shape[2] // 14, x.shape[3] // 14
        tokens = [net.layernorm(each)[:, 1 + registers :] for each in found]
        return [each.transpose(1, 2).unflatten(2, grid) for each in tokens]

    return renamed(net, names, padded(maps, 14, [14] * len(layers)))


def timm_dinov2(name, layers=1, **options):
    """timm resamples with antialiasing always; the original only for nets with registers."""
    import timm
    from timm.models import vision_transformer

    if "reg" not in name:
        resample = partial(vision_transformer.resample_abs_pos_embed, antialias=False)
        vision_transformer.resample_abs_pos_embed = resample
    net = timm.create_model(name, pretrained=False, dynamic_img_size=True, **options)

    def maps(net, x):
        options = {"norm": True, "intermediates_only": True, "output_fmt": "NCHW"}
        return net.forward_intermediates(x, indices=layers, **options)

    return net, padded(maps, 14, [14] * (layers if isinstance(layers, int) else len(layers)))


TINY = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 2, 1]}
SMALL_MIT = {"hidden_sizes": [4, 8, 10, 16], "depths": [1, 1, 2, 1]}
B1, B2 = {"hidden_sizes": [64, 128, 320, 512]}, {"depths": [3, 4, 6, 3]}
VIT_S = {"hidden_size": 384, "num_attention_heads": 6, "image_size": 518}
SMALL_VIT = {
    **{"hidden_size": 16, "num_attention_heads": 2, "image_size": 70},
    **{"num_hidden_layers": 2, "layers": (0, 1)},
}
SMALL_TIMM_VIT = {"embed_dim": 16, "num_heads": 2, "img_size": 70, "depth": 2}

NETS = {
    "convnext_tiny": torchvision_convnext,
    "convnext_tiny_timm": timm_convnext,
    "convnext_tiny_transformers": hf_convnext,
    "convnext_tiny_original": partial(hf_convnext, CONVNEXT_ORIGINAL),
    "mit_b0": hf_mit,
    "mit_b0_original": partial(hf_mit, MIT_ORIGINAL),
    "mit_b1": partial(hf_mit, MIT_FILE, **B1),
    "mit_b2": partial(hf_mit, MIT_FILE, **B1, **B2),
    "dinov2_small": partial(hf_dinov2, DINOV2_FILE, **VIT_S),
    "dinov2_small_timm": partial(timm_dinov2, "vit_small_patch14_dinov2"),
    "dinov2_small_registers": partial(hf_dinov2, DINOV2_FILE, 4, **VIT_S),
    "dinov2_small_registers_original": partial(hf_dinov2, DINOV2_ORIGINAL, 4, **VIT_S),
    "dinov2_small_registers_timm": partial(timm_dinov2, "vit_small_patch14_reg4_dinov2"),
    "small_convnext_torchvision": partial(torchvision_convnext, (8, 8, 16, 16)),
    "small_convnext_timm": partial(timm_convnext, dims=[8, 8, 16, 16], depths=[1, 1, 2, 1]),
    "small_convnext_transformers": partial(hf_convnext, **TINY),
    "small_convnext_original": partial(hf_convnext, CONVNEXT_ORIGINAL, **TINY),
    "small_mit_transformers": partial(hf_mit, MIT_FILE, **SMALL_MIT),
    "small_mit_transformers5": partial(hf_mit, **SMALL_MIT),
    "small_mit_original": partial(hf_mit, MIT_ORIGINAL, **SMALL_MIT),
    "small_dinov2_transformers": partial(hf_dinov2, DINOV2_FILE, **SMALL_VIT),
    "small_dinov2_original": partial(hf_dinov2, DINOV2_ORIGINAL, **SMALL_VIT),
    "small_dinov2_registers_transformers5": partial(hf_dinov2, (), 2, **SMALL_VIT),
    "small_dinov2_registers_original": partial(hf_dinov2, DINOV2_ORIGINAL, 2, **SMALL_VIT),
    "small_dinov2_registers_timm": partial(
        timm_dinov2, "vit_small_patch14_reg4_dinov2", 2, **SMALL_TIMM_VIT
    ),
}
