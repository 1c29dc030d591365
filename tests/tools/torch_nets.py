"""The nets of `tests.tools.torch_speed` in PyTorch: layers of the same shapes as ours.

For an interpreter that has PyTorch and none of this project's dependencies.
"""

import itertools
import math

import torch
import torch.nn.functional as F
from torch import nn

CLASSES = 11
conv3 = lambda i, o, **options: nn.Conv2d(i, o, 3, padding=1, **options)
group_norm = lambda width: nn.GroupNorm(math.gcd(8, width), width)
NORMS = {"batch": nn.BatchNorm2d, "group": group_norm}


def larger(x, factor):
    if factor == 1:
        return x
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def block(inputs, width, norm):
    layers = [conv3(inputs, width, bias=False), NORMS[norm](width), nn.ReLU()]
    return nn.Sequential(*layers, conv3(width, width, bias=False), NORMS[norm](width), nn.ReLU())


class UNet(nn.Module):
    def __init__(self, widths, norm, up, stem):
        super().__init__()
        self.stride = stem
        self.stem = conv3(3, widths[0], stride=stem) if stem > 1 else nn.Identity()
        inputs = (widths[0] if stem > 1 else 3, *widths)
        self.encoder = nn.ModuleList(
            block(i, w, norm) for i, w in zip(inputs, widths, strict=False)
        )
        pairs = list(itertools.pairwise(widths))
        if up == "transpose":
            self.up = nn.ModuleList(nn.ConvTranspose2d(low, high, 2, 2) for high, low in pairs)
        else:
            self.up = nn.ModuleList(nn.Conv2d(low, high, 1) for high, low in pairs)
        self.factor = 1 if up == "transpose" else 2
        self.decoder = nn.ModuleList(block(2 * high, high, norm) for high, _ in pairs)
        self.head = nn.Conv2d(widths[0], CLASSES, 1)

    def forward(self, x):
        x, skips = self.stem(x), []
        for level, encode in enumerate(self.encoder):
            x = encode(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        for level in reversed(range(len(self.up))):
            x = larger(self.up[level](x), self.factor)
            x = self.decoder[level](torch.cat([x, skips[level]], 1))
        return larger(self.head(x), self.stride)


class DifferenceConv(nn.Module):
    def __init__(self, inputs, width):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, inputs, 3, 3))
        nn.init.kaiming_normal_(self.weight)
        centre = torch.zeros(1, 1, 3, 3)
        centre[..., 1, 1] = 1.0
        self.register_buffer("centre", centre)

    def forward(self, x):
        half = len(self.weight) // 2
        change = self.weight[:half]
        change = change - change.sum((2, 3), keepdim=True) * self.centre
        return F.conv2d(x, torch.cat([change, self.weight[half:]]), padding=1)


class Stage(nn.Module):
    def __init__(self, inputs, width, dilation):
        super().__init__()
        conv = lambda: nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, bias=False)
        self.first, self.second, self.third = DifferenceConv(inputs, width), conv(), conv()
        self.norms = nn.ModuleList(group_norm(width) for _ in range(3))

    def forward(self, x):
        x = inputs = F.relu(self.norms[0](self.first(x)))
        x = F.relu(self.norms[1](self.second(x)))
        return F.relu(inputs + self.norms[2](self.third(x)))


class EdgeNet(nn.Module):
    def __init__(self, widths=(16, 24, 32, 40), side=16):
        super().__init__()
        last = len(widths) - 1
        self.stages = nn.ModuleList(
            Stage(i, w, 2 if level == last else 1)
            for level, (i, w) in enumerate(zip((3, *widths), widths, strict=False))
        )
        self.skips = nn.ModuleList(nn.Conv2d(width, side, 1) for width in widths)
        self.convs = nn.ModuleList(
            nn.Sequential(conv3(side, side, bias=False), group_norm(side), nn.ReLU())
            for _ in widths
        )
        self.heads = nn.ModuleList(nn.Conv2d(side, 1, 1) for _ in widths)
        self.fuse = nn.Conv2d(len(widths), 1, 1)

    def forward(self, x):
        found, sides, y = [], [], None
        for level, stage in enumerate(self.stages):
            x = stage(F.max_pool2d(x, 2) if level else x)
            found.append(x)
        for level in reversed(range(len(found))):
            skip = self.skips[level](found[level])
            y = self.convs[level](skip if y is None else skip + larger(y, 2))
            sides.append(larger(self.heads[level](y), 2**level))
        sides = torch.cat(sides[::-1], 1)
        return torch.cat([self.fuse(sides), sides], 1)


class Gated(nn.Module):
    """A layer of the gated PixelCNN; kernels hold the neighbours before a pixel only."""

    def __init__(self, inputs, features, size, first):
        super().__init__()
        reach, self.first = size // 2, first
        rows, columns = (reach, reach) if first else (reach + 1, reach + 1)
        self.vertical = nn.Conv2d(inputs, 2 * features, (rows, size))
        self.horizontal = nn.Conv2d(inputs, 2 * features, (1, columns))
        self.link = nn.Conv2d(2 * features, 2 * features, 1)
        self.out = nn.Conv2d(features, features, 1)
        self.above = (reach, reach, reach, -1 if first else 0)
        self.left = (reach, -1 if first else 0, 0, 0)

    def forward(self, v, h):
        gate = lambda x: torch.tanh(x.chunk(2, 1)[0]) * torch.sigmoid(x.chunk(2, 1)[1])
        fed = self.vertical(F.pad(v, self.above))
        out = self.out(gate(self.horizontal(F.pad(h, self.left)) + self.link(fed)))
        return gate(fed), (out if self.first else h + out)


class PixelCNN(nn.Module):
    def __init__(self, layers=5, features=32, head=64):
        super().__init__()
        self.layers = nn.ModuleList(
            Gated(features if n else 1, features, 3 if n else 7, n == 0) for n in range(layers)
        )
        self.head = nn.Sequential(
            nn.ReLU(), nn.Conv2d(features, head, 1), nn.ReLU(), nn.Conv2d(head, 1, 1)
        )

    def forward(self, x):
        v = h = x
        for layer in self.layers:
            v, h = layer(v, h)
        return self.head(h)


class Maps(nn.Module):
    """A vector [B, F] as maps [B, channels, side, side]."""

    def __init__(self, channels, side):
        super().__init__()
        self.shape = (side, side, channels)

    def forward(self, x):
        return x.view(-1, *self.shape).permute(0, 3, 1, 2)


class Flat(nn.Module):
    """Maps [B, C, H, W] as vectors, in the order in which they lie in memory."""

    def forward(self, x):
        return x.permute(0, 2, 3, 1).flatten(1)


def dcgan():
    """The generator and the discriminator for 28 x 28 pixels; 64 latents."""
    up = lambda i, o: (group_norm(i), nn.ReLU(), conv3(i, 4 * o), nn.PixelShuffle(2))
    down = lambda i, o: (nn.Conv2d(i, o, 4, 2, 1), nn.LeakyReLU(0.2))
    generator = nn.Sequential(
        nn.Linear(64, 7 * 7 * 128), Maps(128, 7), *up(128, 64), *up(64, 1), nn.Tanh()
    )
    discriminator = nn.Sequential(*down(1, 64), *down(64, 128), Flat(), nn.Linear(7 * 7 * 128, 1))
    return nn.ModuleList([generator, discriminator])


def conv_vae():
    """The encoder and the decoder for 28 x 28 pixels; 40 latents."""
    down = lambda i, o: (conv3(i, o, stride=2), nn.ReLU())
    encoder = nn.Sequential(*down(1, 32), *down(32, 64), Flat(), nn.Linear(7 * 7 * 64, 80))
    decoder = nn.Sequential(
        *(nn.Linear(40, 7 * 7 * 64), nn.ReLU(), Maps(64, 7)),
        *(nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(32, 1, 4, 2, 1)),
    )
    return nn.ModuleList([encoder, decoder])
