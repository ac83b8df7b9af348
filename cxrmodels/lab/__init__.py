"""The training lab: a run is a folder, a process trains in it, and any number of pages watch and steer it.

`config`, `presets`, `events`, `history`, `control`, `store`, `line`, `process`, `pictures` and `signs` import neither
Keras nor TensorFlow: they are what a page uses. `network`, `saliency` and `loop` train, with Keras on any of its
backends.
"""
