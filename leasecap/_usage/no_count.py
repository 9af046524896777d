"""Why a provider's count isn't known."""

from __future__ import annotations


class NoCount(Exception):
    """There is no count. Its text is for people: what happened, where, and what to do if anything."""
