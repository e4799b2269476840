"""The task in which visual tokens are few: the reading of a figure amid words that have nothing to do with it."""
