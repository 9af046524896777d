"""The crash matrix: real processes that are killed, or stopped and continued, at every effect of every operation."""
