"""The page inside a network, part by part."""
