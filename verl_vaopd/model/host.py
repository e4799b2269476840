"""What verl does to a model while it builds one, held back."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from verl.utils import fsdp_utils
from verl.workers.engine.fsdp import transformer_impl


@contextmanager
def replaced(owner, name: str, value) -> Iterator[None]:
    before = vars(owner)[name]
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def without_patches():
    """Within it, verl leaves the classes of transformers as they are.

    It would replace the forwards of model and attention classes for the whole process; this package runs the towers
    and text models that transformers has.
    """
    return replaced(transformer_impl, "apply_monkey_patch", lambda *_, **__: None)


def own_units():
    """Within it, verl's FSDP2 wraps the modules of :func:`wrap_targets`."""
    return replaced(fsdp_utils, "_select_fsdp2_wrap_targets", wrap_targets)


def wrap_targets(model: nn.Module, layer_classes) -> list[nn.Module]:
    """What becomes a unit of its own: layers, and unless they are tied the input embedding and the head.

    The host would also wrap every other embedding when the head is untied, of which a tower may read the weight
    without a call, and classes inside the layers.

    Args:
        layer_classes: names of the layers' classes.
    """
    stacks = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    layers = [layer for stack in stacks for layer in stack if type(layer).__name__ in set(layer_classes)]
    if model.config.tie_word_embeddings:
        return layers
    return [*layers, model.get_input_embeddings(), model.get_output_embeddings()]
