"""Visual-advantage on-policy distillation of vision-language models on verl."""

__version__ = "0.1.0"
