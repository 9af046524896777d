"""What any store of a pool offers: protocols and frozen data. Nothing here knows a store."""
