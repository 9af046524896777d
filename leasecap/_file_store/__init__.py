"""A pool on disk: everything that knows the root's layout. Only `_runtime` may import it."""
