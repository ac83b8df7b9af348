"""The comparison page, part by part."""
