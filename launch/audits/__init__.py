"""What `launch.audit` checks of a generative model."""
