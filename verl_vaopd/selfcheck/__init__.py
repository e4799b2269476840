"""Checks of this machine's arithmetic by small runs of the real code: ``verl-vaopd selfcheck``."""
