"""The task whose answers have a heavy tail of lengths: the perimeter of a polygon, added up side by side."""
