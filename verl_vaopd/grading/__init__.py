"""Which answer a text commits to, and whether it says the same as the truth."""
