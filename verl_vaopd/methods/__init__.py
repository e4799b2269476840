"""One file a method, and what they share."""
