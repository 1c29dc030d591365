"""Image segmentation: pure functions on arrays.

The method is four steps, each usable alone: preprocess (`augment`), features
(`boundary`, `texture`, `depth`, `hha`), segment (`unet`; `likelihoods` and `bayes`;
`regions`, `texture_regions`, `layers`) and postprocess (`prior_shift`, `crf`,
`postprocess`, `sliding`). A network is trained by a task, see `jaxseg.task`.
"""
