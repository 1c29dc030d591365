"""The side of `tests.tools.smp_beside` that trains by segmentation_models_pytorch.

For an interpreter that has that package and none of this project's dependencies. PyTorch is
imported where it is used, so that the suite can test the rest without it.

The recipe is the usual one: smp's U-Net over timm's tf_efficientnet_lite0; whole images where
no side is above 320 pixels, else random crops of 256; mirroring, and turns where the data has
no up and down; cross-entropy + Dice; AdamW, 1e-3 for all parameters, along a cosine over the
time that is left; batches of 8; float32 in the memory format channels_last.
"""

import argparse
import json
import math
import os
import re
import sys
import time
from collections.abc import Iterator

import numpy as np

ENCODER = "tu-tf_efficientnet_lite0"
BATCH, RATE = 8, 1e-3
WHOLE, CROP, MULTIPLE = 320, 256, 32  # pixels
GREY, VOID = 127, 255  # of padding: what normalisation makes 0, and no class
REPEATS = (1, 2, 2, 3, 3, 4, 1)  # blocks of the seven stages
# Of a weights file, tensors that follow the encoder.
HEAD = r"_conv_head\.weight|_bn1\..*|_fc\..*"


def main(argv: list[str]) -> None:
    """Trains until the time is over, then labels the test images; prints a line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.tools.smp_side")
    parser.add_argument("--data", required=True, help="the .npz file of smp_beside.hand_over")
    parser.add_argument("--out", required=True, help="the .npz file of predicted masks")
    parser.add_argument("--classes", type=int, required=True)
    parser.add_argument("--began", type=float, required=True, help="time.time() of the start")
    parser.add_argument("--seconds", type=float, required=True, help="from then on")
    parser.add_argument("--weights", default="", help="EfficientNet-Lite0, lukemelas' names")
    parser.add_argument("--turns", action="store_true", help="images have no up and down")
    options = parser.parse_args(argv)
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(os.cpu_count() or 1)
    images, masks, tests = read(options.data)
    net = build(images[0].shape[-1], options.classes, options.weights)
    end = options.began + options.seconds
    losses = train(net, images, masks, options.classes, options.turns, end)
    took = time.time() - options.began
    predicted = {f"{number:06d}": label(net, image) for number, image in enumerate(tests)}
    np.savez(options.out, **predicted)
    print(json.dumps({"seconds": round(took, 1), "steps": len(losses)}))


def read(path: str) -> tuple[list, list, list]:
    """Images and masks of the training split, and images of the test split."""
    with np.load(path) as arrays:
        names = sorted(arrays.files)
        groups = ("train/image/", "train/mask/", "test/image/")
        return tuple([arrays[name] for name in names if name.startswith(g)] for g in groups)


def build(channels: int, classes: int, weights: str):
    """The net, its encoder random or with the weights of a file."""
    import segmentation_models_pytorch as smp
    import torch
    from segmentation_models_pytorch.encoders._utils import patch_first_conv

    net = smp.Unet(ENCODER, encoder_weights=None, in_channels=3, classes=classes)
    if weights:
        net.encoder.model.load_state_dict(timm_tensors(torch.load(weights, weights_only=True)))
    if channels != 3:
        patch_first_conv(net.encoder, channels, pretrained=bool(weights))
    return net.to(memory_format=torch.channels_last)


def timm_tensors(tensors: dict) -> dict:
    """Tensors under timm's names, without those of the head; every other one is used."""
    return {
        timm_name(key): tensor for key, tensor in tensors.items() if not re.fullmatch(HEAD, key)
    }


def timm_name(key: str) -> str:
    """What timm calls a tensor of the encoder that lukemelas' EfficientNet-PyTorch names.

    Raises:
      KeyError: neither the stem nor a block has such a tensor.
    """
    stem = {"_conv_stem": "conv_stem", "_bn0": "bn1"}
    name, _, leaf = key.rpartition(".")
    if name in stem:
        return f"{stem[name]}.{leaf}"
    _, number, layer = name.split(".") if name.count(".") == 2 else ("", "", name)
    first = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    others = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw"}
    others |= {"_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3"}
    layers = first if number == "0" else others
    if not number or layer not in layers:
        raise KeyError(f"{key} is no tensor of an EfficientNet-Lite0's encoder")
    stage, block = 0, int(number)
    while block >= REPEATS[stage]:
        stage, block = stage + 1, block - REPEATS[stage]
    return f"blocks.{stage}.{block}.{layers[layer]}.{leaf}"


def train(net, images, masks, classes, turns, end) -> list[float]:
    """Trains until `end`, a value of time.time(); returns the loss of each step."""
    import torch

    start, losses, said = time.time(), [], 0.0
    frame = frame_of(images)
    print(f"smp: {frame[1]} x {frame[0]} pixels, turns: {turns}", file=sys.stderr)
    optimizer = torch.optim.AdamW(net.parameters(), RATE)
    loss_of = criterion(classes)
    net.train()
    for image, mask in batches(images, masks, frame, turns, np.random.default_rng(0)):
        progress = (time.time() - start) / max(end - start, 1e-9)
        if progress >= 1:
            return losses
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 + math.cos(math.pi * progress)) / 2
        loss = loss_of(net(planes(image)), torch.from_numpy(mask).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if progress >= said:
            mean = np.mean(losses[-20:])
            line = f"smp: step {len(losses)}, {end - time.time():.0f} s left, loss {mean:.4f}"
            print(line, file=sys.stderr)
            said += 0.1
    raise AssertionError("batches never end")


def criterion(classes: int):
    """Cross-entropy + Dice over the pixels with a label."""
    import segmentation_models_pytorch as smp
    import torch.nn.functional as F

    dice = smp.losses.DiceLoss(smp.losses.MULTICLASS_MODE, ignore_index=VOID)

    def loss(logits, ids):
        known = (ids != VOID).sum().clamp(min=1)  # a batch may have none
        entropy = F.cross_entropy(logits, ids, ignore_index=VOID, reduction="sum") / known
        return entropy + dice(logits, ids)

    return loss


def frame_of(images: list) -> tuple[int, int]:
    """(height, width) of the arrays of training: of whole images, padded, or of crops."""
    largest = np.max([image.shape[:2] for image in images], 0)
    if max(largest) > WHOLE:
        return CROP, CROP
    return tuple(int(-(-side // MULTIPLE) * MULTIPLE) for side in largest)


def batches(images, masks, frame, turns, rng) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches without end: images uint8 [B, H, W, C] and ids uint8 [B, H, W]."""
    waiting = []
    while True:
        while len(waiting) < BATCH:
            waiting += rng.permutation(len(images)).tolist()
        chosen, waiting = waiting[:BATCH], waiting[BATCH:]
        pairs = [varied(images[n], masks[n], frame, turns, rng) for n in chosen]
        image, mask = zip(*pairs, strict=True)
        yield np.stack(image), np.stack(mask)


def varied(image, mask, frame, turns, rng):
    """A random crop of an image and its mask, padded where it has to be, mirrored, turned."""
    image, mask = padded(image, frame, GREY), padded(mask, frame, VOID)
    free = (full - side for full, side in zip(mask.shape, frame, strict=True))
    top, left = (int(rng.integers(0, most + 1)) for most in free)
    place = slice(top, top + frame[0]), slice(left, left + frame[1])
    image, mask = image[place], mask[place]
    if rng.random() < 0.5:
        image, mask = image[:, ::-1], mask[:, ::-1]
    if turns and rng.random() < 0.5:
        image, mask = image[::-1], mask[::-1]
    if turns and frame[0] == frame[1]:
        quarters = int(rng.integers(0, 4))
        image, mask = np.rot90(image, quarters), np.rot90(mask, quarters)
    return image, mask


def padded(array, least, value):
    """An array [H, W, ...] of `least` (height, width) or more, padded below and at the right."""
    missing = [max(0, side - full) for side, full in zip(least, array.shape[:2], strict=True)]
    ends = [(0, more) for more in missing] + [(0, 0)] * (array.ndim - 2)
    return np.pad(array, ends, constant_values=value)


def planes(images):
    """uint8 [B, H, W, C] -> float [B, C, H, W], normalised, channels last in memory."""
    import torch

    return torch.from_numpy(images).permute(0, 3, 1, 2).float().sub(127.0).div(128.0)


def label(net, image) -> np.ndarray:
    """The class of every pixel, uint8 [H, W], of a whole image [H, W, C]."""
    import torch

    height, width = image.shape[:2]
    full = [-(-side // MULTIPLE) * MULTIPLE for side in (height, width)]
    net.eval()
    with torch.inference_mode():
        logits = net(planes(padded(image, full, GREY)[None]))[0]
    return logits.argmax(0)[:height, :width].numpy().astype(np.uint8)


if __name__ == "__main__":
    main(sys.argv[1:])
