"""The folder of a run: what is logged, shown and drawn."""
