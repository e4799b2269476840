"""Typed settings, composing them, suggestions."""
