"""Supervised fine-tuning on teacher-written answers: verl's SFT trainer on this package's student engine."""
