"""The places in which an entry of a pool can stand."""

from __future__ import annotations

# Where an entry stands is its state. Each state has a directory of its own, in place of marks in the names: a rename
# *within* a directory can hide the entry from a listing that runs at the same time (large directories are read in
# several chunks), and a lease that a listing misses is granted twice. Read in this order, in which entries move, and
# ``parked/`` once more before the queue, none is missed.
QUEUE, PARKED, GRANTED, LEASES = "queue", "parked", "granted", "leases"

STAGING, TRASH, STOLEN = "staging", "trash", "stolen"
