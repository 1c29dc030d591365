"""Convolutions and matrix products by oneDNN, which jaxlib for x86 Linux contains.

XLA can call the library, by custom calls `__onednn$convolution` and `__onednn$matmul`,
but its own passes do not use them in the builds on PyPI. oneDNN's convolutions run at 320 to
350 GFLOP/s on two cores where XLA's others run at 150 to 310.

The calls are not part of JAX's public interface: `launch.cpu.lowerings` has the releases of
jaxlib with which they were tried. A program with such a call cannot be exported, partitioned
over devices, or kept in JAX's compilation cache.
"""

import json
import platform
import sys

import jax


def available() -> bool:
    """Whether jaxlib for this machine contains oneDNN."""
    return sys.platform == "linux" and platform.machine() == "x86_64"


def convolution(x, kernel, strides, padding, dilation, groups):
    """A convolution (correlation) of images.

    Args:
      x: float32 [B, H, W, C].
      kernel: float32 [KH, KW, C / groups, D].
      strides: (rows, columns).
      padding: ((above, below), (left, right)) zeros, none negative.
      dilation: (rows, columns) between elements of the kernel; 1 for none.
      groups: of channels.

    Returns:
      float32 [B, H', W', D].
    """
    sizes = zip(x.shape[1:3], kernel.shape[:2], strides, padding, dilation, strict=True)
    spatial = [(n + sum(p) - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sizes]
    image = {"dims": 4, "data": {"batch_dim": 0, "feature_dim": 3, "spatial_dims": [1, 2]}}
    config = {
        "dims": 4,
        "input": image,
        "output": image,
        "kernel": {
            "dims": 4,
            "filter": {
                "input_feature_dim": 2,
                "output_feature_dim": 3,
                "spatial_dims": [0, 1],
            },
        },
        "window": {
            "pad_left": [low for low, _ in padding],
            "pad_right": [high for _, high in padding],
            "strides": list(strides),
            "window_dilations": list(dilation),
        },
        "feature_groups": groups,
    }
    shape = (x.shape[0], *spatial, kernel.shape[3])
    return _call(x, kernel, shape, "convolution", {"onednn_conv_config": config})


def gram(a, b):
    """a transposed times b.

    Args:
      a: float32 [N, P].
      b: float32 [N, Q].

    Returns:
      float32 [P, Q].
    """
    (rows, p), q = a.shape, b.shape[1]
    # Long thin products leave a core idle unless they are several at a time (measured).
    parts = min(8, rows // 16_384) if p * q <= 20_000 else 1
    config = {"onednn_matmul_config": {"transpose_a": True}}
    if parts < 2 or rows % parts:
        return _call(a, b, (p, q), "matmul", config)
    a, b = a.reshape(parts, -1, p), b.reshape(parts, -1, q)
    return _call(a, b, (parts, p, q), "matmul", config).sum(0)


def _call(a, b, shape, target, settings):
    call = jax.ffi.ffi_call(
        f"__onednn${target}",
        jax.ShapeDtypeStruct(shape, a.dtype),
        custom_call_api_version=2,
        legacy_backend_config=json.dumps(settings),
    )
    return call(a, b)
