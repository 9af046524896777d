"""What any store of a pool offers: protocols and frozen data. Knows no store."""
