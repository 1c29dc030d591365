"""Image segmentation: pure functions on arrays.

The method is four steps, each usable alone: preprocess (`warp`), features
(`boundary`, `texture`, `depth`), segment (`unet`, `bayes`) and postprocess
(`regions`, `crf`). A network is trained by a task, see `jaxseg.task`.
"""
