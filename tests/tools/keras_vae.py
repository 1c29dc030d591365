"""The VAE 784-500-20 in Keras on its JAX backend, as a yardstick for our loop.

  pip install keras jax            # in an environment of its own
  KERAS_BACKEND=jax python tests/tools/keras_vae.py IMAGES.npy

IMAGES.npy: uint8 [N, 28, 28, 1], e.g. image.npy of the decoded cache of MNIST. The
same arithmetic as ours: dynamic binarisation, ReLU, one latent sample, Adam 1e-3,
batch 128. Prints the steps/s of `fit` in its second and later epochs.
"""

import json
import os
import sys
import time

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
from keras import layers, ops


class VAE(keras.Model):
    def __init__(self):
        super().__init__()
        self.seeds = keras.random.SeedGenerator(0)
        self.encoder = keras.Sequential([layers.Dense(500, "relu"), layers.Dense(40)])
        self.decoder = keras.Sequential([layers.Dense(500, "relu"), layers.Dense(784)])

    def call(self, image):
        x = ops.cast(
            keras.random.uniform(ops.shape(image), seed=self.seeds) * 255 < image, "float32"
        )
        mean, log_std = ops.split(self.encoder(x), 2, axis=-1)
        noise = keras.random.normal(ops.shape(mean), seed=self.seeds)
        logits = self.decoder(mean + ops.exp(log_std) * noise)
        reconstruction = ops.sum(ops.softplus(logits) - x * logits, axis=-1)
        kl = ops.sum(0.5 * (ops.exp(2 * log_std) + mean**2 - 1) - log_std, axis=-1)
        self.add_loss(ops.mean(reconstruction + kl))
        return logits


class Clock(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.marks = []

    def on_epoch_end(self, epoch, logs=None):
        self.marks.append(time.perf_counter())


if __name__ == "__main__":
    images = np.load(sys.argv[1]).reshape(-1, 784).astype("float32")
    model, clock = VAE(), Clock()
    model.compile(optimizer=keras.optimizers.Adam(1e-3))
    history = model.fit(images, batch_size=128, epochs=5, verbose=0, callbacks=[clock])
    steps = -(-len(images) // 128)
    rates = steps / np.diff(clock.marks)
    print(
        json.dumps(
            {
                "keras": keras.__version__,
                "steps_per_second": float(np.median(rates)),
                "each_epoch": [round(float(rate), 1) for rate in rates],
                "loss": history.history["loss"][-1],
            }
        )
    )
