"""The side of `tests.tools.encoder_parity` that runs in PyTorch: reference nets.

For an interpreter that has PyTorch, torchvision, timm, transformers and safetensors, and none
of this project's dependencies. Each net of `NETS` is a function that returns (module, stages):
`stages(module, image [B, C, H, W])` gives the feature maps [B, C, H, W], finest first.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from tests.tools import encoder_layer_norm_references, encoder_numbers


def torchvision_resnet(depth):
    import torchvision

    return getattr(torchvision.models, f"resnet{depth}")(weights=None), resnet_stages


def timm_resnet(depth):
    import timm

    return timm.create_model(f"resnet{depth}", pretrained=False), resnet_stages


def small_torchvision_resnet(block, width=8):
    """torchvision's net with one block a stage; it has no option for the width of the stem."""
    from torchvision.models import resnet

    kind = getattr(resnet, block)
    net = resnet.ResNet(kind, [1, 1, 1, 1])
    net.conv1 = torch.nn.Conv2d(3, width, 7, 2, 3, bias=False)
    net.bn1 = torch.nn.BatchNorm2d(width)
    net.inplanes = width
    for stage in range(4):
        layer = net._make_layer(kind, width << stage, 1, stride=1 if stage == 0 else 2)
        setattr(net, f"layer{stage + 1}", layer)
    net.fc = torch.nn.Linear(net.inplanes, 4)
    return net, resnet_stages


def resnet_stages(net, x):
    maps = [torch.relu(net.bn1(net.conv1(x)))]
    x = net.maxpool(maps[0])
    for layer in (net.layer1, net.layer2, net.layer3, net.layer4):
        x = layer(x)
        maps.append(x)
    return maps


def outputs_of(names):
    """Stages that are the outputs of some modules of a net."""

    def stages(net, x):
        maps, hooks = {}, []
        for name in names:
            keep = lambda module, inputs, output, name=name: maps.update({name: output})
            hooks.append(net.get_submodule(name).register_forward_hook(keep))
        net(x)
        for hook in hooks:
            hook.remove()
        return [maps[name] for name in names]

    return stages


LITE0_STAGES = outputs_of([f"blocks.{stage}" for stage in (0, 1, 2, 4, 6)])


def timm_lite0(name):
    import timm

    return timm.create_model(name, pretrained=False), LITE0_STAGES


def small_timm_lite0():
    """timm's net with 8 channels everywhere; it has no option for that."""
    from functools import partial

    from timm.models import _efficientnet_builder, efficientnet

    stages = ("ds_r1_k3_s1_e1_c8", *(f"ir_r1_{kind}_e6_c8" for kind in LITE0_KINDS[:2]))
    stages += (f"ir_r2_{LITE0_KINDS[2]}_e6_c8", *(f"ir_r1_{k}_e6_c8" for k in LITE0_KINDS[3:]))
    net = efficientnet.EfficientNet(
        _efficientnet_builder.decode_arch_def([[stage] for stage in stages]),
        num_classes=4,
        num_features=8,
        stem_size=8,
        fix_stem=True,
        round_chs_fn=round,
        act_layer=torch.nn.ReLU6,
        norm_layer=partial(torch.nn.BatchNorm2d, eps=1e-5),
    )
    return net, LITE0_STAGES


LITE0_KINDS = ("k3_s2", "k5_s2", "k3_s2", "k5_s1", "k5_s2", "k3_s1")


def original_lite0():
    """EfficientNet-PyTorch's net, of the Python package efficientnet-lite-pytorch."""
    from efficientnet_lite_pytorch import EfficientNet

    net = EfficientNet.from_name("efficientnet-lite0", image_size=None)
    return net, outputs_of([f"_blocks.{last}" for last in (0, 2, 4, 10, 15)])


def small_original_lite0():
    """The same with 8 channels behind the stem, and two blocks in the fourth stage."""
    from efficientnet_lite_pytorch import EfficientNet
    from efficientnet_lite_pytorch.utils import BlockArgs, get_model_params

    _, parameters = get_model_params("efficientnet-lite0", {"image_size": None, "num_classes": 4})
    kinds = [(1, 3, 1, 1, 32), (1, 3, 2, 6, 8), (1, 5, 2, 6, 8), (2, 3, 2, 6, 8)]
    kinds += [(1, 5, 1, 6, 8), (1, 5, 2, 6, 8), (1, 3, 1, 6, 8)]
    net = EfficientNet([BlockArgs(*kind, 8, None, True) for kind in kinds], parameters)
    return net, outputs_of([f"_blocks.{last}" for last in (0, 1, 2, 5, 7)])


def hf_resnet(**options):
    import transformers

    net = transformers.ResNetForImageClassification(transformers.ResNetConfig(**options))

    def stages(net, x):
        stem = net.resnet.embedder.embedder(x)
        return [stem, *net.resnet(x, output_hidden_states=True).hidden_states[1:]]

    return net, stages


SMALL_RESNET = {"embedding_size": 8, "depths": [1, 1, 1, 1], "num_labels": 4}

NETS = {
    "resnet18": lambda: torchvision_resnet(18),
    "resnet34": lambda: torchvision_resnet(34),
    "resnet50": lambda: torchvision_resnet(50),
    "resnet50_timm": lambda: timm_resnet(50),
    "resnet18_transformers": lambda: hf_resnet(
        depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 256, 512], layer_type="basic"
    ),
    "resnet50_transformers": lambda: hf_resnet(),
    "small_resnet10": lambda: small_torchvision_resnet("BasicBlock"),
    "small_resnet14": lambda: small_torchvision_resnet("Bottleneck"),
    "small_resnet10_transformers": lambda: hf_resnet(
        **SMALL_RESNET, hidden_sizes=[8, 16, 32, 64], layer_type="basic"
    ),
    "small_resnet14_transformers": lambda: hf_resnet(
        **SMALL_RESNET, hidden_sizes=[32, 64, 128, 256]
    ),
    "lite0": original_lite0,
    "lite0_tf_timm": lambda: timm_lite0("tf_efficientnet_lite0"),
    "lite0_timm": lambda: timm_lite0("efficientnet_lite0"),
    "small_lite0": small_original_lite0,
    "small_lite0_timm": small_timm_lite0,
    **encoder_layer_norm_references.NETS,
}


def main():
    """Writes weights.safetensors and, for each size, reference0.npz (image, stages), ..."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--net", choices=NETS, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    net, stages = NETS[options.net]()
    shapes = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    numbers = encoder_numbers.tensors(shapes)
    net.load_state_dict({name: torch.from_numpy(numbers[name]) for name in shapes})
    save_file(net.state_dict(), options.folder / "weights.safetensors")
    net.eval()
    for number, size in enumerate(encoder_numbers.sizes(options.net)):
        image = encoder_numbers.image(*size)
        with torch.no_grad():
            maps = stages(net, torch.from_numpy(image).permute(0, 3, 1, 2).contiguous())
        maps = {f"stage{n}": m.permute(0, 2, 3, 1).numpy() for n, m in enumerate(maps)}
        np.savez(options.folder / f"reference{number}.npz", image=image, **maps)


if __name__ == "__main__":
    main()
