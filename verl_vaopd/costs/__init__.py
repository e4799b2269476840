"""A training step on paper: what it costs in FLOPs, bytes and memory, from the models' configs alone."""
