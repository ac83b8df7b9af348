"""Training: recipes, augmentation, the fitting loop (any Keras backend), and what turns a fit into a shipped model."""
