"""Configs of small models of each family: few layers, narrow, 90 to 93 their vision tokens."""

from transformers import (
    Gemma3Config,
    Glm4vConfig,
    InternVLConfig,
    LlavaConfig,
    LlavaOnevisionConfig,
    Qwen2_5_VLConfig,
    Qwen2VLConfig,
    Qwen3_5Config,
    Qwen3VLConfig,
    Qwen3VLMoeConfig,
)

IMAGE, VIDEO, VISION_START, VISION_END = 90, 91, 92, 93
IMAGE_SIDE = 32  # of InternVL's tiles: 16 patches, 4 tokens
TOKENS = dict(
    image_token_id=IMAGE, video_token_id=VIDEO, vision_start_token_id=VISION_START, vision_end_token_id=VISION_END
)


def text(hidden: int, layers: int, head_rows: int, tied: bool) -> dict:
    return dict(
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=head_rows,
        tie_word_embeddings=tied,
        max_position_embeddings=1024,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )


def rope(interleaved: bool, section=(4, 2, 2), **more) -> dict:
    interleaving = {"mrope_interleaved": True} if interleaved else {}
    return dict(rope_type="default", rope_theta=1e4, mrope_section=list(section), **interleaving, **more)


def qwen3_vision(hidden: int) -> dict:
    return dict(
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
    )


def qwen3_vl(hidden: int, layers: int, head_rows: int, tied: bool) -> Qwen3VLConfig:
    return Qwen3VLConfig(
        text_config=text(hidden, layers, head_rows, tied) | dict(head_dim=16, rope_parameters=rope(True)),
        vision_config=qwen3_vision(hidden),
        tie_word_embeddings=tied,
        **TOKENS,
    )


def qwen3_vl_moe(hidden: int, layers: int, head_rows: int, tied: bool) -> Qwen3VLMoeConfig:
    """Loading tells the hub's layout of the experts by shapes: no two of them are equal."""
    moe = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=40, norm_topk_prob=True)
    return Qwen3VLMoeConfig(
        text_config=text(hidden, layers, head_rows, tied) | dict(head_dim=16, rope_parameters=rope(True)) | moe,
        vision_config=qwen3_vision(hidden),
        tie_word_embeddings=tied,
        **TOKENS,
    )


def qwen2_5_vl(hidden: int, layers: int, head_rows: int, tied: bool) -> Qwen2_5_VLConfig:
    """Windows of 16 pixels hold one merged token; its second block attends to the whole image."""
    return Qwen2_5_VLConfig(
        text_config=text(hidden, layers, head_rows, tied)
        | dict(rope_parameters=rope(False, section=(hidden // 16, hidden // 32, hidden // 32))),
        vision_config=dict(
            depth=2,
            hidden_size=32,
            intermediate_size=64,
            num_heads=2,
            patch_size=8,
            spatial_merge_size=2,
            temporal_patch_size=2,
            out_hidden_size=hidden,
            window_size=16,
            fullatt_block_indexes=[1],
        ),
        tie_word_embeddings=tied,
        **TOKENS,
    )


def qwen2_vl(hidden: int, layers: int, head_rows: int, tied: bool) -> Qwen2VLConfig:
    return Qwen2VLConfig(
        text_config=text(hidden, layers, head_rows, tied)
        | dict(rope_parameters=rope(False, section=(hidden // 16, hidden // 32, hidden // 32))),
        vision_config=dict(
            depth=2,
            embed_dim=32,
            hidden_size=hidden,
            mlp_ratio=2,
            num_heads=2,
            patch_size=8,
            spatial_merge_size=2,
            temporal_patch_size=2,
        ),
        tie_word_embeddings=tied,
        **TOKENS,
    )


def glm4v(hidden: int, layers: int, head_rows: int, tied: bool) -> Glm4vConfig:
    """Half of a head's width is rotated."""
    return Glm4vConfig(
        text_config=text(hidden, layers, head_rows, tied)
        | dict(
            rope_parameters=rope(False, section=(hidden // 32, hidden // 64, hidden // 64), partial_rotary_factor=0.5)
        ),
        vision_config=dict(
            depth=2,
            hidden_size=32,
            intermediate_size=48,
            num_heads=2,
            patch_size=8,
            image_size=64,
            spatial_merge_size=2,
            temporal_patch_size=2,
            out_hidden_size=hidden,
        ),
        tie_word_embeddings=tied,
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        image_start_token_id=VISION_START,
        image_end_token_id=VISION_END,
    )


def internvl(hidden: int, layers: int, head_rows: int, tied: bool) -> InternVLConfig:
    return InternVLConfig(
        text_config=dict(model_type="qwen2", **text(hidden, layers, head_rows, tied)),
        vision_config=dict(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            patch_size=[8, 8],
            image_size=[IMAGE_SIDE, IMAGE_SIDE],
        ),
        image_seq_length=4,
        image_token_id=IMAGE,
        tie_word_embeddings=tied,
    )


def qwen3_5(hidden: int, layers: int, head_rows: int, tied: bool) -> Qwen3_5Config:
    """The first layer is a recurrence, the second attends."""
    recurrence = dict(
        linear_key_head_dim=16,
        linear_value_head_dim=16,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        layer_types=["linear_attention", "full_attention"],
    )
    return Qwen3_5Config(
        text_config=text(hidden, layers, head_rows, tied)
        | dict(head_dim=32, rope_parameters=rope(True, section=(2, 1, 1), partial_rotary_factor=0.25))
        | recurrence,
        vision_config={**qwen3_vision(hidden), "deepstack_visual_indexes": []},
        tie_word_embeddings=tied,
        **TOKENS,
    )


def siglip_vision() -> dict:
    return dict(
        model_type="siglip_vision_model",
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        patch_size=8,
        image_size=IMAGE_SIDE,
        vision_use_head=False,
    )


def gemma3(hidden: int, layers: int, head_rows: int, tied: bool) -> Gemma3Config:
    """A window of 8 tokens in the first layer; 4 tokens an image."""
    return Gemma3Config(
        text_config=text(hidden, layers, head_rows, tied)
        | dict(head_dim=16, sliding_window=8, layer_types=["sliding_attention", "full_attention"]),
        vision_config=siglip_vision(),
        mm_tokens_per_image=4,
        image_token_index=IMAGE,
        boi_token_index=VISION_START,
        eoi_token_index=VISION_END,
        tie_word_embeddings=tied,
    )


def llava_onevision(hidden: int, layers: int, head_rows: int, tied: bool) -> LlavaOnevisionConfig:
    return LlavaOnevisionConfig(
        text_config=dict(model_type="qwen2", **text(hidden, layers, head_rows, tied)),
        vision_config=siglip_vision(),
        image_grid_pinpoints=[[IMAGE_SIDE, 2 * IMAGE_SIDE], [2 * IMAGE_SIDE, IMAGE_SIDE]],
        image_token_index=IMAGE,
        video_token_index=VIDEO,
        tie_word_embeddings=tied,
    )


def llava(hidden: int, layers: int, head_rows: int, tied: bool) -> LlavaConfig:
    """A family that this package has no file for; features are those of the first of two layers."""
    return LlavaConfig(
        text_config=dict(model_type="llama", **text(hidden, layers, head_rows, tied)),
        vision_config={**siglip_vision(), "model_type": "clip_vision_model", "projection_dim": 32},
        image_token_index=IMAGE,
        image_seq_length=16,
        tie_word_embeddings=tied,
    )


CONFIGS = {
    made.__name__: made
    for made in (
        *(qwen3_vl, qwen3_vl_moe, qwen2_5_vl, qwen2_vl, glm4v, internvl),
        *(qwen3_5, gemma3, llava_onevision, llava),
    )
}
