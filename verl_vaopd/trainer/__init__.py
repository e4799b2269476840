"""The Ray driver: what happens in a step, the hydra entry point, the typed config."""
