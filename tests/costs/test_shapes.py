import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from verl_vaopd.costs.published import QWEN3_VL_INSTRUCT
from verl_vaopd.costs.shapes import ModelShape, TextShape, VisionShape

TEXT = TextShape(
    vocab_size=10, hidden_size=4, intermediate_size=6, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=1, head_dim=3,
)  # fmt: skip
VISION = VisionShape(
    depth=2, hidden_size=4, intermediate_size=5, num_heads=2, in_channels=3, patch_size=2, temporal_patch_size=2,
    spatial_merge_size=2, num_position_embeddings=9, out_hidden_size=4, deepstack_visual_indexes=(0,),
)  # fmt: skip


def small_config(tied: bool) -> Qwen3VLConfig:
    return Qwen3VLConfig(
        text_config=dict(
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=2,
            num_attention_heads=8,
            num_key_value_heads=2,
            head_dim=32,
            vocab_size=1000,
            rope_parameters=dict(rope_type="default", rope_theta=1e4, mrope_section=[8, 4, 4], mrope_interleaved=True),
        ),
        vision_config=dict(
            depth=3,
            hidden_size=64,
            intermediate_size=160,
            num_heads=4,
            patch_size=8,
            spatial_merge_size=2,
            temporal_patch_size=2,
            out_hidden_size=128,
            num_position_embeddings=64,
            deepstack_visual_indexes=[0, 1],
        ),
        image_token_id=990,
        video_token_id=991,
        vision_start_token_id=992,
        vision_end_token_id=993,
        tie_word_embeddings=tied,
    )


def parts(model) -> dict[str, int]:
    """What transformers built, tied weights once."""
    prefixes = {
        "vision": "model.visual.",
        "embedding": "model.language_model.embed_tokens.",
        "layers": "model.language_model.layers.",
        "norm": "model.language_model.norm.",
        "head": "lm_head.",
    }
    counts = dict.fromkeys(prefixes, 0)
    for name, parameter in model.named_parameters():
        (part,) = (part for part, prefix in prefixes.items() if name.startswith(prefix))
        counts[part] += parameter.numel()
    return counts


@pytest.mark.parametrize(
    "config",
    [small_config(tied=True), small_config(tied=False), *(Qwen3VLConfig(**c) for c in QWEN3_VL_INSTRUCT.values())],
    ids=["small tied", "small untied", *QWEN3_VL_INSTRUCT],
)
def test_parameters_are_those_that_transformers_builds(config):
    with torch.device("meta"):
        model = Qwen3VLForConditionalGeneration(config)
    shape = ModelShape.of(config)
    assert shape.parameters == parts(model)
    assert shape.total == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("size", QWEN3_VL_INSTRUCT)
def test_a_dictionary_and_a_config_object_read_the_same(size):
    config = QWEN3_VL_INSTRUCT[size]
    assert ModelShape.of(config) == ModelShape.of(Qwen3VLConfig(**config))


def test_other_models_and_incomplete_configs_are_refused():
    with pytest.raises(ValueError, match="'qwen2_5_vl'"):
        ModelShape.of({"model_type": "qwen2_5_vl"})
    config = QWEN3_VL_INSTRUCT["2B"]
    text = {key: value for key, value in config["text_config"].items() if key != "head_dim"}
    with pytest.raises(ValueError, match="lacks head_dim, needed for TextShape"):
        ModelShape.of({**config, "text_config": text})


def test_decoder_by_hand():
    # q and o 4 x 6, k and v 4 x 3, three of the MLP 4 x 6: 24 * 2 + 12 * 2 + 72 = 144
    assert TEXT.layer_matrix == 144
    assert TEXT.layer_parameters == 144 + 2 * 4 + 2 * 3
    assert TEXT.linear_flops == 2 * 2 * 144
    assert TEXT.recomputed_flops == 2 * 2 * (144 - 24)  # all but the down projection
    assert TEXT.score_flops == 2 * 2 * (2 * 3 + 2 * 3)  # layers x heads x (q k and weight x v, 2 FLOPs each)
    assert TEXT.head_flops == 2 * 10 * 4
    assert TEXT.kv_bytes == 2 * 2 * 1 * 3 * 2  # k and v, layers, kv heads, head size, bf16
    assert TEXT.layer_activations == 6 * 4 + 4 * 6 + 4 * 3 + 4 * 6


def test_vision_by_hand():
    assert VISION.patch_matrix == 3 * 2 * 4 * 4
    assert VISION.block_matrix == 4 * 16 + 2 * 20
    assert VISION.merger_matrix == 16 * 16 + 16 * 4
    # per patch: 96 + 2 blocks of 104 + 2 mergers of 320 on one token in four patches
    assert VISION.linear_flops == 2 * (96 + 2 * 104 + 2 * 320 / 4)
    assert VISION.score_flops == 2 * (2 * 4 + 2 * 4)


def test_twice_the_tokens_are_twice_the_linear_part_and_more_of_the_scores():
    model = ModelShape(TEXT, VISION, tied=True)
    linear, scores = model.forward_flops(tokens=8, pairs=8 * 9 / 2, images=0, patches=0)
    twice_linear, twice_scores = model.forward_flops(tokens=16, pairs=16 * 17 / 2, images=0, patches=0)
    assert (linear, scores) == (8 * 576, 36 * 48)
    assert (twice_linear, twice_scores) == (2 * linear, 136 * 48)


def counted(training: bool) -> tuple[int, ModelShape, int, int]:
    """FLOPs that torch counts on a real model: 64 tokens of which 16 show an image of 64 patches, eager attention."""
    torch.manual_seed(0)
    config = small_config(tied=False)
    config._attn_implementation = "eager"
    model = Qwen3VLForConditionalGeneration(config)
    image = [torch.tensor([992]), torch.full((16,), 990), torch.tensor([993])]
    ids = torch.cat([torch.randint(0, 900, (10,)), *image, torch.randint(0, 900, (36,))])[None]
    inputs = dict(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        mm_token_type_ids=(ids == 990).int(),
        pixel_values=torch.randn(64, 3 * 2 * 8 * 8),
        image_grid_thw=torch.tensor([[1, 8, 8]]),
        use_cache=False,
    )
    if training:
        model.train()
        model.gradient_checkpointing_enable({"use_reentrant": False})  # as verl does
    with torch.set_grad_enabled(training), FlopCounterMode(display=False) as counter:
        logits = model(**inputs).logits
        if training:
            logits.sum().backward()
    return counter.get_total_flops(), ModelShape.of(config), ids.shape[1], 64


def test_forward_flops_are_those_that_torch_counts():
    flops, shape, tokens, patches = counted(training=False)
    # Eager attention forms all S * S scores.
    linear, scores = shape.forward_flops(tokens, tokens**2, 1, patches)
    assert flops == pytest.approx(linear + scores + tokens * shape.text.head_flops, rel=0.005)


def test_training_flops_are_those_that_torch_counts():
    flops, shape, tokens, patches = counted(training=True)
    linear, scores = shape.training_flops(tokens, tokens**2, 1, patches)
    eager_scores = scores * 8 / 9  # 4 products in backward where flash attention has 5: 2 + 2 + 4 for 2 + 2 + 5
    assert flops == pytest.approx(linear + eager_scores + 3 * tokens * shape.text.head_flops, rel=0.005)
