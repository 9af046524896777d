"""The places in which an entry of a pool can stand."""

from __future__ import annotations

# Where an entry stands is its state. Three directories for what holds or may hold a slot and not one with marks in the
# names: a rename *within* a directory can hide an entry from a listing that runs at the same time (readdir in several
# chunks; measured on ext4: 45 % of listings of 1000 entries missed it), and a lease that a listing misses is granted
# twice. Read in the order in which entries move on, none is ever missed.
QUEUE, PARKED, GRANTED, LEASES = "queue", "parked", "granted", "leases"

STAGING, TRASH, STOLEN = "staging", "trash", "stolen"

RESTS = "rests"
"""The file in a ticket whose waiter looks more seldom, since the ends of all holders wake it (`exits`)."""
