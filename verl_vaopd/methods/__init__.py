"""One file a method. What a method is, and what methods share, stands in ``interface/``.

A method says who writes the answers, which views of the images are made and who sees them, what it refuses, how the
columns of a step become one weight per token, what the student minimises, and what a step's line shows.
``vaopd.method=NAME`` takes the file of that name here, ``vaopd.method=pkg://module:Class`` anybody's (docs/methods.md).
"""

from verl_vaopd.methods.interface.distillation import Distillation
from verl_vaopd.methods.interface.method import Method, Step, Weighed
from verl_vaopd.methods.interface.objective import Objective, Outcome, Responses
from verl_vaopd.methods.interface.registry import method_class, method_names, method_of
from verl_vaopd.methods.interface.scores import Evidence, Views

__all__ = [
    "Distillation",
    "Evidence",
    "Method",
    "Objective",
    "Outcome",
    "Responses",
    "Step",
    "Views",
    "Weighed",
    "method_class",
    "method_names",
    "method_of",
]
