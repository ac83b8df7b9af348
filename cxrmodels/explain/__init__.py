"""Where a network looked: saliency maps."""
