"""Scores of label maps, contours, edges and regions.

- `contours`: boundary F1 and the 95 % Hausdorff distance.
- `edge_matching`: thinning and one-to-one matching of boundary pixels.
- `edge_scores`: ODS, OIS and AP of the BSDS boundary benchmark.
- `example_scores`: scores of single examples, as sums.
- `pixel_scores`: confusion matrix, IoU, Dice, calibration error.
- `region_scores`: regions with arbitrary labels, matched to the true regions.
"""
