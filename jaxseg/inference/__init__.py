"""From a net to label maps of whole images: windows, refinement, post-processing."""
