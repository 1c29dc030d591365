"""What a run writes for a person: metrics, images, plots."""
