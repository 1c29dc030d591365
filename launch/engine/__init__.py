"""The training engine: it drives any task and knows no model."""
