"""The checks of `launch.audit`, for generative models."""
