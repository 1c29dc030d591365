"""Image generation as pure functions: nets, likelihoods, losses and tasks.

Synopsis:
    import jax, optax
    from jaxgen import nets
    from jaxgen.vae import vae

    example = {"image": jax.ShapeDtypeStruct((28, 28, 1), "uint8")}
    task = vae(nets.MLPEncoder(20), nets.MLPDecoder(), optax.adam(1e-3), example)
    state = task.init(jax.random.key(0), batch)
    state, sums = jax.jit(task.train_step)(state, batch, jax.random.key(1))
    task.finish(sums)    # {"loss": ..., "negative_elbo": ..., "kl": ..., ...}

Needs jax, flax, optax and numpy; reads no file, device or clock.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any


def lazy(package: str, modules: dict[str, str]) -> Callable[[str], Any]:
    """Builds the `__getattr__` of a package that loads a module at the first use of a name.

    A run then loads the nets and losses that its config names, and no others (PEP 562).

    Args:
      package: name of the package.
      modules: {public name: the module of the package that defines it}.

    Returns:
      name -> the object; raises AttributeError for a name that `modules` lacks.
    """

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{modules[name]}"), name)

    return get
