"""config.toml, the presets, the names of pools, and the place of the root. Nothing here knows a pool's directory."""
