"""The one forward of a Qwen3-VL model that this package runs, for teacher and student alike."""

from types import MethodType

import torch

from verl_vaopd.model.attention import Segments, install_attention


def install_forward(module) -> None:
    """Give a ``Qwen3VLForConditionalGeneration`` the forward :func:`run_on_response_rows`.

    To be called before FSDP wraps the module. The loss is computed inside the forward of ``lm_head``, where FSDP holds
    its gathered weight (in the root's unit when tied to the embedding, else in one of its own), and the gradient of
    the head takes the ordinary way back to its shards.

    Raises:
        ValueError: the model's ``attn_implementation`` is not one of this package's.
    """
    install_attention(module.model.language_model)
    module.forward = MethodType(run_on_response_rows, module)
    module.lm_head.forward = MethodType(apply_to_head, module.lm_head)


def apply_to_head(self, hidden, head_fn):
    """The forward of ``lm_head``: ``head_fn(hidden, weight)`` in place of their product."""
    with torch.autocast(device_type=hidden.device.type, enabled=False):
        return head_fn(hidden.to(self.weight.dtype), self.weight)


def run_on_response_rows(
    self,
    input_ids,
    position_ids,
    pixel_values,
    image_grid_thw,
    feature_index,
    row_index,
    segments: Segments,
    head_fn,
):
    """Run the model once and hand the hidden states at ``row_index`` and the head to ``head_fn``.

    The vision tower sees each unique image once; ``feature_index`` copies its features to every prompt that shows the
    image, so in backward their gradients are summed before the tower is walked back once.

    Args:
        input_ids: [1, T], the whole sequence on every rank; position_ids: [3, 1, T / ranks] temporal, height, width.
        pixel_values: [patches, patch_dim] of the unique images, or None; image_grid_thw: [images, 3].
        feature_index: [image tokens] which visual feature stands at each image token, in token order.
        row_index: [M] positions among this rank's tokens.
        segments: which token sees which, and which tokens are this rank's.
        head_fn: ``head_fn(hidden [M, D], head [rows, D])``, a closure: tensors it holds are not seen by FSDP, which
            would cast them to the compute dtype if they were arguments.
    Returns:
        What ``head_fn`` returns.
    """
    embeds = self.get_input_embeddings()(input_ids)
    visual = self.model.visual
    has_images = pixel_values is not None
    if not has_images:
        # Ranks must run the same collectives: a micro-batch without images walks the tower over one blank image, at
        # weight zero.
        merge = self.config.vision_config.spatial_merge_size
        patch_dim = visual.patch_embed.proj.weight[0].numel()
        pixel_values = embeds.new_zeros(merge**2, patch_dim)
        image_grid_thw = torch.tensor([[1, merge, merge]], device=embeds.device)
    output = visual(pixel_values.to(embeds.dtype), grid_thw=image_grid_thw, return_dict=True)
    features, deepstack = output.pooler_output, output.deepstack_features
    mine = slice(segments.rank, None, segments.ranks)
    if has_images:
        image_mask = input_ids == self.config.image_token_id
        embeds = embeds.masked_scatter(image_mask[..., None], features[feature_index].to(embeds.dtype))
        if segments.ranks > 1:
            at = image_mask[0].nonzero().squeeze(1)
            feature_index = feature_index[at % segments.ranks == segments.rank]
            image_mask = image_mask[:, mine]
        deepstack = [layer[feature_index] for layer in deepstack]
    else:
        embeds = embeds + 0.0 * (features.sum() + sum(layer.sum() for layer in deepstack))
        image_mask = deepstack = None
    hidden = self.model.language_model(
        inputs_embeds=embeds[:, mine],
        position_ids=position_ids,
        visual_pos_masks=image_mask,
        deepstack_visual_embeds=deepstack,
        use_cache=False,
        segments=segments,
    ).last_hidden_state
    return self.lm_head(hidden[0, row_index], head_fn)
