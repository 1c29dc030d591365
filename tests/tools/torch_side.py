"""The side of `tests.tools.torch_speed` that runs in PyTorch: losses, training, windows.

For an interpreter that has PyTorch and none of this project's dependencies. float32 in the
memory format channels_last, Adam in its fused form, nothing compiled, and as many threads as
PyTorch takes by itself.
"""

import argparse
import sys

import torch
import torch.nn.functional as F

from tests.tools import in_turn, torch_nets
from tests.tools.torch_nets import CLASSES

WIDE = ((32, 64, 128, 256, 512), "batch", "transpose", 1)
NARROW = (32, 64, 128, 160)


def numbers(*shape, high=256):
    """Random uint8 images [B, H, W, C], the same at every call."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, high, shape, generator=generator, dtype=torch.uint8)


def planes(image, scale, shift=0.0):
    """uint8 [B, H, W, C] -> float [B, C, H, W], channels last in memory."""
    return image.permute(0, 3, 1, 2).float() / scale + shift


def adam(net):
    return torch.optim.Adam(net.parameters(), 1e-3, fused=True)


def follow(optimizer, loss, parameters):
    """One step down the gradient of the loss by these parameters alone."""
    parameters = list(parameters)
    for parameter, slope in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        parameter.grad = slope
    optimizer.step()


def trained(net, loss):
    """A step of training: `loss` of the net, its gradient, Adam."""
    optimizer = adam(net)
    return lambda: follow(optimizer, loss(net), net.parameters())


def of_unet(batch, side, *arguments):
    image, ids = numbers(batch, side, side, 3), numbers(batch, side, side, high=CLASSES)
    net = torch_nets.UNet(*arguments)
    loss = lambda net: F.cross_entropy(net(planes(image, 127.5, -1.0)), ids.long())
    return net, trained(net, loss), batch


def of_edges(batch=4, side=160):
    image = numbers(batch, side, side, 3)
    marks = torch.where(numbers(batch, side, side, 1) < 16, 255, 0).to(torch.uint8)

    def loss(net):
        logits, share = net(planes(image, 127.5, -1.0)), planes(marks, 255.0)
        edge, ground = (share > 0) & (share >= 0.3), share == 0
        edges, grounds = (part.sum((1, 2, 3), keepdim=True).float() for part in (edge, ground))
        counted = (edges + grounds).clamp(min=1)
        weight = torch.where(edge, grounds, torch.where(ground, 1.1 * edges, 0.0)) / counted
        target = edge.float().expand_as(logits)
        terms = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        return ((weight * terms).sum((2, 3)) / counted[:, :, 0, 0]).mean()

    net = torch_nets.EdgeNet()
    return net, trained(net, loss), batch


def of_dcgan(batch=64):
    image, net = numbers(batch, 28, 28, 1), torch_nets.dcgan()
    generator, critic = net
    optimizers = [adam(part) for part in net]

    def step():
        real = planes(image, 127.5, -1.0)
        with torch.no_grad():
            fake = generator(torch.randn(batch, 64))
        on_real, on_fake = critic(torch.cat([real, fake])).chunk(2)
        seen = real.detach().requires_grad_()
        (slope,) = torch.autograd.grad(critic(seen).sum(), seen, create_graph=True)
        penalty = 0.2 * slope.square().sum((1, 2, 3)).mean()
        loss = (F.softplus(-on_real) + F.softplus(on_fake)).mean() + penalty
        follow(optimizers[1], loss, critic.parameters())
        loss = F.softplus(-critic(generator(torch.randn(batch, 64)))).mean()
        follow(optimizers[0], loss, generator.parameters())

    return net, step, batch


def of_pixelcnn(batch=64):
    image = numbers(batch, 28, 28, 1)

    def loss(net):
        grey = planes(image, 255.0)
        logits = net((torch.rand_like(grey) < grey).float())
        return F.binary_cross_entropy_with_logits(logits, grey, reduction="sum") / batch

    net = torch_nets.PixelCNN()
    return net, trained(net, loss), batch


def of_conv_vae(batch=128):
    image = numbers(batch, 28, 28, 1)

    def loss(net):
        grey = planes(image, 255.0)
        x = (torch.rand_like(grey) < grey).float()
        mean, log_std = net[0](x).chunk(2, 1)
        logits = net[1](mean + log_std.exp() * torch.randn_like(mean))
        kl = 0.5 * ((2 * log_std).exp() + mean.square() - 1) - log_std
        cost = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        return (cost + kl.sum()) / batch

    net = torch_nets.conv_vae()
    return net, trained(net, loss), batch


def of_predict(photographs=50, window=128, multiple=16):
    """A step is one photograph of 500 x 375 pixels; windows one at a time, as ours."""
    images, net, done = numbers(photographs, 375, 500, 3), torch_nets.UNet(*WIDE).eval(), 0

    def step():
        nonlocal done
        done += 1
        with torch.inference_mode():
            return labels(net, images[done % photographs], window, multiple)

    return net, step, 1


def labels(net, image, window, multiple):
    """The class of every pixel of an image [H, W, C]: windows that fade into each other."""
    places = [starts(side, window, multiple) for side in image.shape[:2]]
    weights = [[fade(line, n, window) for n in range(len(line))] for line in places]
    total = torch.zeros(CLASSES, *(line[-1] + window for line in places))
    weight = torch.zeros(total.shape[1:])
    inside = lambda first, side: torch.arange(first, first + window).clamp(max=side - 1)
    for row, top in enumerate(places[0]):
        strip = image[inside(top, image.shape[0])]
        for column, left in enumerate(places[1]):
            part = strip[:, inside(left, image.shape[1])][None]
            probability = net(planes(part, 127.5, -1.0)).softmax(1)[0]
            share = weights[0][row][:, None] * weights[1][column]
            place = slice(top, top + window), slice(left, left + window)
            total[:, *place] += probability * share
            weight[place] += share
    return (total / weight).argmax(0)[: image.shape[0], : image.shape[1]].to(torch.uint8)


def starts(size, window, multiple):
    """Where windows begin along one side; each covers half of the one before again."""
    full = max(window, -(-size // multiple) * multiple)
    return [*range(0, full - window, window // 2), full - window]


def fade(places, number, window):
    """The weights of one window along one side; 1 towards a side of the image."""
    weights, inside = torch.ones(window), torch.arange(window) + 0.5
    ramp = lambda depth, zone: ((depth - zone / 4) / (zone / 2)).clamp(0.0, 1.0)
    if number > 0:
        weights *= ramp(inside, window - (places[number] - places[number - 1]))
    if number < len(places) - 1:
        weights *= ramp(window - inside, window - (places[number + 1] - places[number]))
    return weights


NETS = {
    "unet": lambda: of_unet(4, 128, *WIDE),
    "folder": lambda: of_unet(8, 256, NARROW, "group", "resize", 2),
    "folder_batch": lambda: of_unet(8, 256, NARROW, "batch", "resize", 2),
    "dcgan": of_dcgan,
    "pixelcnn": of_pixelcnn,
    "conv_vae": of_conv_vae,
    "edges": of_edges,
    "predict": of_predict,
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--net", choices=NETS, required=True)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    torch.manual_seed(0)
    net, step, batch = NETS[options.net]()
    net.to(memory_format=torch.channels_last)
    count = sum(parameter.numel() for parameter in net.parameters())
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads", file=sys.stderr)
    in_turn.serve(step, {"parameters": count, "batch": batch}, options.seconds)
