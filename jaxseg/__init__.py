"""Image segmentation: pure functions on arrays.

Tasks that train a net: `segmentation`, `classification`, `edge_detection`; `task` says
what a task is, `training` holds the gradient step that they share.

Around them: `labels` (which ids are classes), `losses`, `augment` and `noise` (random
numbers per example), `distance` (distance transforms), `pictures` (label maps as
images), `examples` (checks of what a data set holds). Packages: `nets`, `cues` (inputs
computed from an image or depth), `bayes` (likelihoods, priors, MAP decisions),
`unsupervised` (segmentation without training), `metrics`, and `inference` (from a
net's output to a label map).
"""
