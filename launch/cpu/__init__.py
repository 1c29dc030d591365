"""What makes XLA faster on CPUs; GPUs and TPUs see none of it."""
