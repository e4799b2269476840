"""What a method returns is looked at before it reaches the student: a wrong weight would train in silence."""

import torch
from torch import Tensor

from verl_vaopd.methods.interface.method import Method, Step, Weighed
from verl_vaopd.methods.interface.objective import Objective


def checked(method: Method, weighed: Weighed, step: Step, objective: Objective) -> Weighed:
    """``weighed``, if it can be trained on.

    Raises:
        ValueError: names the method, the field and what is wrong: no :class:`Weighed`, a column that is missing, of
            another shape, not finite, not 0 off the mask; or no weight at all.
    """

    def refuse(what: str):
        raise ValueError(f"vaopd.method={method.name}: weigh() {what}")

    if not isinstance(weighed, Weighed):
        refuse(f"must return a Weighed, not {type(weighed).__name__}")
    wanted = {"token_weights", *objective.fields} - {"teacher_hidden"}
    if missing := sorted(wanted - set(weighed.student)):
        refuse(f"leaves out {', '.join(missing)}, which its objective reads (Weighed.student)")
    if unread := sorted(set(weighed.student) - wanted):
        refuse(
            f"gives {', '.join(unread)}, which its objective does not read (its fields: {', '.join(objective.fields)})"
        )
    for name, values in weighed.student.items():
        if not isinstance(values, Tensor) or values.shape != step.mask.shape:
            shape = list(values.shape) if isinstance(values, Tensor) else type(values).__name__
            refuse(f"gives {name} of shape {shape}, the step's tokens are {list(step.mask.shape)}")
        if bad := int((~torch.isfinite(values.float()) & step.mask).sum()):
            refuse(f"gives {name} that is not finite on {bad} tokens")
    weights = weighed.student["token_weights"]
    if weights[~step.mask].any():
        refuse("gives token_weights that are not 0 off the mask")
    if (weights < 0).any():
        refuse("gives negative token_weights")
    if not weights.any():
        refuse("gives token_weights that are all 0")
    return weighed
