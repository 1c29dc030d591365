"""From the output of a net to a label map.

- `crf`: a fully connected conditional random field.
- `posterior`: averages over the mirror image and over dropout samples.
- `postprocess`: removal of small regions, filling of holes, the largest component.
- `sliding`: prediction of images of any size by overlapping windows.
"""
