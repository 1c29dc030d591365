"""Cues: maps computed from an image or from depth, without training.

- `boundary`: gradients of lightness, colour and texture; Canny; ridges.
- `depth`: units, hole filling, normals, depth edges.
- `filters`: Gaussian derivatives and banks of kernels.
- `histograms`: soft histograms of lightness, colour and fine structure.
- `hha`: depth as inverse depth, height and angle with gravity.
- `texture`: Gabor energies, local binary patterns, structure tensor, local histograms.
- `texture_filters`: the kernels of Gabor, Leung-Malik, Schmid and MR8 banks.
"""
