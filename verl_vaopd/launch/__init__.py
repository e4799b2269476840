"""From the command to a driver on Ray, and looking after it."""
