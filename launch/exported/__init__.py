"""A trained model as one file that runs with jax alone; `launch.export` writes it."""
