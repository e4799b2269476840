"""Data sets in verl's row format, their images, and rule-based rewards."""
