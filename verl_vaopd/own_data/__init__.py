"""Rows of your own, of any shape, as checked parquet: ``verl-vaopd data convert``."""
