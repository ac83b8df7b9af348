"""The training lab's page, part by part."""
