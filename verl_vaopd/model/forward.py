"""The one packed forward that this package runs, for teacher and student alike, of whatever family."""

from functools import partial
from types import MethodType

import torch

from verl_vaopd.model.attention import install_attention
from verl_vaopd.model.families import PackedFamily
from verl_vaopd.model.segments import Segments
from verl_vaopd.model.vision import VisionInputs


def install_forward(module, family: PackedFamily, kernel: str = "sdpa") -> None:
    """Give a model with a head (``...ForConditionalGeneration``) the forward :func:`run_on_response_rows`.

    To be called before FSDP wraps the module. The loss is computed inside the forward of ``lm_head``, where FSDP holds
    its gathered weight (in the root's unit when tied to the embedding, else in one of its own), and the gradient of
    the head takes the ordinary way back to its shards.

    Args:
        kernel: of :data:`verl_vaopd.model.kernels.KERNELS`, as :func:`resolve_attention` names it.
    """
    text = module.model.language_model
    install_attention(text, kernel)
    family.install(text)
    module.forward = MethodType(partial(run_on_response_rows, family), module)
    module.lm_head.forward = MethodType(apply_to_head, module.lm_head)


def apply_to_head(self, hidden, head_fn):
    """The forward of ``lm_head``: ``head_fn(hidden, weight)`` in place of their product."""
    with torch.autocast(device_type=hidden.device.type, enabled=False):
        return head_fn(hidden.to(self.weight.dtype), self.weight)


def run_on_response_rows(
    family: PackedFamily, self, input_ids, position_ids, vision: VisionInputs, row_index, segments: Segments, head_fn
):
    """Run the model once and hand the hidden states at ``row_index`` and the head to ``head_fn``.

    The vision tower sees each unique image once; its features are copied to every prompt that shows the image, so in
    backward their gradients are summed before the tower is walked back once.

    Args:
        input_ids: [1, T], the whole sequence on every rank; position_ids: [3, 1, T / ranks] temporal, height, width, or
            [1, T / ranks] in families of one axis.
        row_index: [M] positions among this rank's tokens.
        segments: which token sees which, and which tokens are this rank's.
        head_fn: ``head_fn(hidden [M, D], head [rows, D])``, a closure: tensors it holds are not seen by FSDP, which
            would cast them to the compute dtype if they were arguments.
    Returns:
        What ``head_fn`` returns.
    """
    embeds = self.get_input_embeddings()(input_ids)
    features, deepstack = family.see(self.model, vision.pixel_values.to(embeds.dtype), vision.arguments)
    if vision.at is None:
        # Ranks must run the same collectives: a micro-batch without images walks the tower over one blank image, at
        # weight zero.
        embeds = embeds + 0.0 * (features.sum() + sum(layer.sum() for layer in deepstack))
        deepstack = []
    else:
        embeds = embeds.index_copy(1, vision.at, features[None, vision.features].to(embeds.dtype))
        deepstack = [layer[vision.own_features] for layer in deepstack]
    at_images = {"visual_pos_masks": vision.own_at, "deepstack_visual_embeds": deepstack} if deepstack else {}
    hidden = self.model.language_model(
        inputs_embeds=embeds[:, segments.rank :: segments.ranks],
        position_ids=position_ids,
        use_cache=False,
        segments=segments,
        **at_images,
    ).last_hidden_state
    return self.lm_head(hidden[0, row_index], head_fn)
