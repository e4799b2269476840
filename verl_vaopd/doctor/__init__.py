"""``verl-vaopd doctor``: is this machine fit to train? Every failed line says how to mend it.

``machine``, ``compiler`` and ``gpus`` need no package: a recipe asks them before it fetches anything.
"""

from verl_vaopd.doctor.command import main

__all__ = ["main"]
