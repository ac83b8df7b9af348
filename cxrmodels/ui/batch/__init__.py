"""The page of many films, part by part."""
