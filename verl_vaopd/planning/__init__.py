"""The plan of a recipe: whether it fits its GPUs, how long it takes, what it writes."""
