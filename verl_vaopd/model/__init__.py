"""What teacher and student both run: packing, attention, forward, head."""
