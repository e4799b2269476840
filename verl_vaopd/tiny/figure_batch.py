"""Training forward for figures of one size: the model's own weights, one dense batch.

transformers processes images one by one in a vision tower without flash attention, and recomputes grids and positions
on every call. Here the figures of a batch are squares of one size. Tests compare the result with the model's forward.

Legend: B figures, P patches of a figure, I = P / 4 visual tokens (64 and 16 of the 64 x 64 figures), D hidden size,
T tokens.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from transformers.models.qwen3_vl.modeling_qwen3_vl import apply_rotary_pos_emb_vision
from transformers.vision_utils import get_vision_bilinear_indices_and_weights, get_vision_position_ids

from verl_vaopd.data.synthetic_geometry import QUESTIONS, READINGS, SIDE, worked_answer
from verl_vaopd.tiny.accuracy import chat_prompt
from verl_vaopd.tiny.processor import IMAGE_MEAN, IMAGE_STD, MERGE_SIZE, PATCH_SIZE

GRID = SIDE // PATCH_SIZE
VISUAL_TOKENS = GRID * GRID // MERGE_SIZE**2


def to_patches(images: np.ndarray) -> torch.Tensor:
    """[B, side, side, 3] uint8 images to [B, P, 192] uint8 patches in the image processor's order (one frame)."""
    merged = images.shape[1] // PATCH_SIZE // MERGE_SIZE
    patches = torch.from_numpy(images).permute(0, 3, 1, 2)
    patches = patches.reshape(-1, 3, merged, MERGE_SIZE, PATCH_SIZE, merged, MERGE_SIZE, PATCH_SIZE)
    return patches.permute(0, 2, 5, 3, 6, 1, 4, 7).reshape(len(images), (merged * MERGE_SIZE) ** 2, -1).contiguous()


def see(visual, patches: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The vision tower on uint8 patches [B, P, 192].

    Returns:
        Visual tokens [B, I, D] and the deepstack features, [B, I, D] each.
    """
    batch, count = patches.shape[:2]
    visual_tokens, grid_thw = count // MERGE_SIZE**2, torch.tensor([[1, math.isqrt(count), math.isqrt(count)]])
    pixels = patches.float().view(batch, count, 3, -1) / 255
    mean, std = (torch.tensor(value).view(3, 1) for value in (IMAGE_MEAN, IMAGE_STD))
    # An image is two equal frames: one product with the summed kernel instead of a 3-D convolution.
    kernel = visual.patch_embed.proj.weight.sum(2).flatten(1)
    hidden = F.linear(((pixels - mean) / std).flatten(2), kernel, visual.patch_embed.proj.bias)

    indices, weights = get_vision_bilinear_indices_and_weights(grid_thw, visual.num_grid_per_side, MERGE_SIZE)
    hidden = hidden + (visual.pos_embed(indices) * weights[:, :, None]).sum(0)
    rotary = visual.rotary_pos_emb(get_vision_position_ids(grid_thw, MERGE_SIZE))
    angles = torch.cat((rotary, rotary), dim=-1)
    cos, sin = angles.cos(), angles.sin()

    deepstack = []
    for index, block in enumerate(visual.blocks):
        attention = block.attn
        qkv = attention.qkv(block.norm1(hidden)).view(batch, count, 3, attention.num_heads, -1)
        query, key, value = qkv.unbind(2)
        query, key = apply_rotary_pos_emb_vision(query, key, cos, sin)
        mixed = F.scaled_dot_product_attention(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2))
        hidden = hidden + attention.proj(mixed.transpose(1, 2).flatten(2))
        hidden = hidden + block.mlp(block.norm2(hidden))
        if index in visual.deepstack_visual_indexes:
            merger = visual.deepstack_merger_list[visual.deepstack_visual_indexes.index(index)]
            deepstack.append(merger(hidden).view(batch, visual_tokens, -1))
    return visual.merger(hidden).view(batch, visual_tokens, -1), deepstack


class Conversations:
    """Every question and worked answer of the data as token ids, right padded.

    Attributes:
        ids: [C, T] int64 conversations, one for each of ``numbers``, question and reading, in that order.
        is_answer: [C, T] bool, true at the answer's tokens and the end of turn.
        positions: [3, 1, T] temporal, height and width position of every token: all conversations start alike.
    """

    def __init__(self, processor, numbers: list[tuple[int, int]]):
        tokenizer = processor.tokenizer
        self.index = {pair: place for place, pair in enumerate(numbers)}
        rows = []
        for question in QUESTIONS:
            text = chat_prompt(processor, question)
            text = text.replace(processor.image_token, processor.image_token * VISUAL_TOKENS)
            prompt = tokenizer(text).input_ids
            for reading in READINGS:
                for pair in numbers:
                    answer = tokenizer(worked_answer(*pair, reading)).input_ids + [tokenizer.eos_token_id]
                    rows.append((prompt, answer))
        width = max(len(prompt) + len(answer) for prompt, answer in rows)
        self.ids = torch.full((len(rows), width), tokenizer.pad_token_id)
        self.is_answer = torch.zeros(self.ids.shape, dtype=torch.bool)
        for row, (prompt, answer) in enumerate(rows):
            end = len(prompt) + len(answer)
            self.ids[row, :end] = torch.tensor(prompt + answer)
            self.is_answer[row, len(prompt) : end] = True
        self.styles = len(QUESTIONS) * len(READINGS)
        self.image_start = self.ids[0].tolist().index(processor.image_token_id)
        self.positions = figure_positions(self.image_start, width)


def figure_positions(image_start: int, width: int, visual_tokens: int = VISUAL_TOKENS) -> torch.Tensor:
    """[3, 1, width] multimodal rotary positions of a sequence whose only image begins at ``image_start``."""
    side = math.isqrt(visual_tokens)
    after = torch.arange(width - image_start - visual_tokens) + image_start + side
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    axes = (torch.zeros(visual_tokens, dtype=torch.int64), rows.flatten(), columns.flatten())
    before = torch.arange(image_start)
    return torch.stack([torch.cat([before, axis + image_start, after]) for axis in axes])[:, None]


def read_aloud(model, patches: torch.Tensor, ids: torch.Tensor, image_start: int, positions: torch.Tensor):
    """Final hidden states [B, T, D] of conversations ``ids`` [B, T] about figures ``patches`` [B, P, 192]."""
    tokens, deepstack = see(model.model.visual, patches)
    embedded = model.get_input_embeddings()(ids)
    image = slice(image_start, image_start + tokens.shape[1])
    embedded = torch.cat([embedded[:, : image.start], tokens, embedded[:, image.stop :]], dim=1)
    is_image = torch.zeros(ids.shape, dtype=torch.bool)
    is_image[:, image] = True
    return model.model.language_model(
        inputs_embeds=embedded,
        position_ids=positions.expand(3, len(ids), -1),
        visual_pos_masks=is_image,
        deepstack_visual_embeds=[feature.flatten(0, 1) for feature in deepstack],
        use_cache=False,
    ).last_hidden_state
