"""Untrained Qwen3-VL checkpoints without tokenizer, and rollouts of random ids: what the engine tests run on."""

import torch
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from verl_vaopd.model.packing import ImageInputs

VOCAB_SIZE = 100  # ids of the imagined tokenizer; 90 to 93 are the vision tokens
PATCH_DIM = 3 * 2 * 8 * 8


def make_checkpoint(path, hidden: int, layers: int, head_rows: int, tied: bool, seed: int) -> None:
    """Write an untrained model whose next-token distributions are far from uniform."""
    torch.manual_seed(seed)
    config = Qwen3VLConfig(
        text_config=dict(
            hidden_size=hidden,
            intermediate_size=2 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
            vocab_size=head_rows,
            rope_parameters=dict(rope_type="default", rope_theta=1e4, mrope_section=[4, 2, 2], mrope_interleaved=True),
            tie_word_embeddings=tied,
            max_position_embeddings=1024,
        ),
        vision_config=dict(
            depth=2,
            hidden_size=32,
            intermediate_size=64,
            num_heads=2,
            patch_size=8,
            spatial_merge_size=2,
            temporal_patch_size=2,
            out_hidden_size=hidden,
            num_position_embeddings=64,
            deepstack_visual_indexes=[0],
        ),
        image_token_id=90,
        video_token_id=91,
        vision_start_token_id=92,
        vision_end_token_id=93,
        tie_word_embeddings=tied,
    )
    model = Qwen3VLForConditionalGeneration(config)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.15)
    model.save_pretrained(path)


def plain_logits(model, input_ids: torch.Tensor, response_length: int, images: ImageInputs | None) -> torch.Tensor:
    """[response_length, head rows]: transformers' own forward on one sequence, one view."""
    vision = {}
    if images is not None:
        vision = dict(pixel_values=images.pixel_values, image_grid_thw=images.image_grid_thw)
    model.model.rope_deltas = None  # kept by the model between forwards
    logits = model(
        input_ids=input_ids[None],
        attention_mask=torch.ones_like(input_ids)[None],
        mm_token_type_ids=(input_ids == 90).int()[None],
        **vision,
    ).logits
    return logits[0, -response_length - 1 : -1]


class Prompts:
    """Three prompts with four rollouts of different length each: one image, two images of different size, text only."""

    def __init__(self, seed: int = 0, response_lengths=(7, 1, 4, 9)):
        generator = torch.Generator().manual_seed(seed)

        def images(*grids):
            patches = sum(h * w for h, w in grids)
            grid = torch.tensor([[1, h, w] for h, w in grids])
            return [ImageInputs(torch.randn(patches, PATCH_DIM, generator=generator), grid) for _ in range(2)]

        views = {"one": images((4, 4)), "two": images((4, 6), (2, 4)), "text": [None, None]}
        self.original = {uid: view[0] for uid, view in views.items() if view[0] is not None}
        self.degraded = {uid: view[1] for uid, view in views.items() if view[1] is not None}
        self.rows = []  # (uid, input_ids, response length), siblings apart from one another
        prompts = {uid: self._prompt(view[0], generator) for uid, view in views.items()}
        for length in response_lengths:
            for uid in views:
                response = torch.randint(0, 90, (length,), generator=generator)
                self.rows.append((uid, torch.cat([prompts[uid], response]), length))

    @staticmethod
    def _prompt(images, generator):
        parts = [torch.randint(0, 90, (3,), generator=generator)]
        for grid in images.image_grid_thw if images is not None else ():
            parts += [torch.tensor([92]), torch.full((int(grid.prod()) // 4,), 90), torch.tensor([93])]
        return torch.cat([*parts, torch.randint(0, 90, (4,), generator=generator)])
