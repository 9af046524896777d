"""The soak: many processes, much that goes wrong, and a referee who trusts none of them."""
