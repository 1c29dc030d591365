"""What `launch.benchmarks.accelerator` measures, piece by piece."""
