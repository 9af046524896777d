"""The picture of a root, for people and programs."""
