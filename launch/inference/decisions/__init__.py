"""From the maps that a net predicts to results: one module for each kind of task.

`exclusive`: one class a pixel; `overlapping`: each class is a yes or no of its own;
`objects`: the pixels of every single object. Each is a class of the same methods: `decide`,
`save`, `summary`, `truth`, `sums` and `scores`.
"""
