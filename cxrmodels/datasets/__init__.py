"""Films on disk: the manifest that lists them, and the public sources they come from."""
