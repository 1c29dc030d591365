"""Segmentation without training.

- `kmeans`: k-means with several starts, on the device.
- `layers`: layers of distance and surfaces, from depth.
- `regions`: watershed and ultrametric contour maps, from a boundary map.
- `texture_regions`: the textures of an image.
"""
