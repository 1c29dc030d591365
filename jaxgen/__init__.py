"""Image generation as pure functions: models, likelihoods, bounds and tasks.

Synopsis:
    import jax, optax
    from jaxgen import nets
    from jaxgen.vae import vae

    example = {"image": jax.ShapeDtypeStruct((28, 28, 1), "uint8")}
    task = vae(nets.MLPEncoder(20), nets.MLPDecoder(), optax.adam(1e-3), example)
    state = task.init(jax.random.key(0), batch)
    state, sums = jax.jit(task.train_step)(state, batch, jax.random.key(1))
    task.finish(sums)    # {"loss": ..., "negative_elbo": ..., "kl": ..., ...}

Needs jax, flax, optax and numpy; no file, device or clock is touched here.
"""
