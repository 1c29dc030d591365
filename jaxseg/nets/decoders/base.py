"""What all decoders have in common: their call, their options, and the checks of both."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxseg.nets.decoders.layers import ConvNorm

NORMS = ("batch", "group")


class Decoder(nn.Module):
    """Turns the maps of an encoder into one map; a base class.

    Called as (features, strides, index int32 [B], train, drop) -> [B, h, w, D]. `features` are
    maps [B, H / s, W / s, C], finest first, one for each s of `strides`. `drop` turns dropout
    on outside training.

    Attributes:
      norm: "batch", as published, with running means of momentum 0.95; or "group" (Wu and He
        2018), which does not depend on the rest of the batch.
      frozen_statistics: whether batch norms use their running means in training too.
      dropout: rate at which whole channels are dropped; each decoder says where.
      dtype: dtype of the computation; parameters are float32.
    """

    norm: str = "batch"
    frozen_statistics: bool = False
    dropout: float = 0.0
    dtype: Any = jnp.float32

    @nn.nowrap
    def stride(self, strides: tuple[int, ...]) -> int:
        """The stride of the map that the decoder returns.

        Args:
          strides: of the encoder's maps, finest first.

        Raises:
          ValueError: the decoder cannot work on such maps.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say its stride")

    @nn.nowrap
    def conv(self, features: int, kernel: int, **options: Any) -> ConvNorm:
        """A convolution with the decoder's norm, dtype and statistics.

        Args:
          features: output channels.
          kernel: its side.
          **options: further attributes of `ConvNorm`, or the module's name.
        """
        return ConvNorm(
            features,
            kernel,
            norm=self.norm,
            frozen_statistics=self.frozen_statistics,
            dtype=self.dtype,
            **options,
        )

    @nn.nowrap
    def check(self, features: tuple[jax.Array, ...], strides: tuple[int, ...]) -> None:
        """Checks options and maps.

        Args:
          features: maps [B, H / s, W / s, C].
          strides: their strides s.

        Raises:
          ValueError: an option is out of range, or maps and strides do not fit together.
        """
        name = type(self).__name__
        if self.norm not in NORMS:
            raise ValueError(f"{name}: norm must be one of {', '.join(NORMS)}; got {self.norm!r}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"{name}: dropout must be in [0, 1), got {self.dropout}")
        if not strides or min(strides) < 1 or list(strides) != sorted(strides):
            raise ValueError(f"{name}: strides must rise from 1 or more, got {strides}")
        if len(features) != len(strides):
            raise ValueError(f"{name}: {len(features)} maps for {len(strides)} strides {strides}")


def finest_from(strides: tuple[int, ...], least: int) -> int:
    """The place of the first map whose stride is at least `least`; of the last if none is.

    Args:
      strides: of the maps, finest first.
      least: the stride.
    """
    places = [place for place, stride in enumerate(strides) if stride >= least]
    return places[0] if places else len(strides) - 1
