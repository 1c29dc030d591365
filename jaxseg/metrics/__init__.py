"""Scores of label maps, contours, edges and regions."""
