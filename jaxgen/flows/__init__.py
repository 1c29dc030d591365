"""Parts of flows and diffusion models: path, parametrisation, loss, samplers, likelihood.

One path joins noise and image, z = t x + (1 - t) e with x in [-1, 1], e ~ N(0, 1): t = 0 is
noise, t = 1 the image. In units of the image, z / t = x + sigma e with sigma = (1 - t) / t, so
rectified flows (Liu et al. 2023), EDM (Karras et al. 2022) and VDM (Kingma et al. 2021) are
settings of it: of the density of t, of the loss's weight and of the net's parametrisation.
"""

from jaxgen import lazy

_MODULES = {
    "binary": "parametrisations",
    "bound": "weights",
    "clean": "parametrisations",
    "ddim": "samplers",
    "density": "ode",
    "dpm_solver": "samplers",
    "edm": "weights",
    "euler": "samplers",
    "even_times": "samplers",
    "heun": "samplers",
    "karras_times": "samplers",
    "leap": "samplers",
    "log_snr": "paths",
    "logit_normal": "paths",
    "mean_flow": "mean_velocity",
    "preconditioned": "parametrisations",
    "sde": "samplers",
    "step_by_step": "sampling_options",
    "uniform": "paths",
    "velocity": "weights",
}
__all__ = list(_MODULES)
__getattr__ = lazy(__name__, _MODULES)
