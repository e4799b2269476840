import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import CONFIG_MAPPING, AutoModelForImageTextToText, Qwen3VLConfig

from tests.random_configs import CONFIGS
from verl_vaopd.costs.published import PUBLISHED, QWEN2_5_VL_INSTRUCT, QWEN3_VL_INSTRUCT
from verl_vaopd.costs.shapes import ModelShape, TextShape, VisionShape
from verl_vaopd.costs.text import ExpertsTextShape
from verl_vaopd.costs.vision import WindowedVisionShape

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


def made(published: dict):
    """A config of transformers."""
    return CONFIG_MAPPING[published["model_type"]](**published)


OTHERS = ("qwen3_vl_moe", "qwen2_5_vl")
SMALL = {
    "small tied": small_config(tied=True),
    "small untied": small_config(tied=False),
    **{f"{name} {tied}": CONFIGS[name](64, 2, 1000, tied) for name in OTHERS for tied in (True, False)},
}


@pytest.mark.parametrize("name", [*SMALL, *PUBLISHED])
def test_parameters_are_those_that_transformers_builds(name):
    config = SMALL.get(name) or made(PUBLISHED[name])
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    shape = ModelShape.of(config)
    assert shape.parameters == parts(model)
    assert shape.total == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_dictionary_and_a_config_object_read_the_same(name):
    assert ModelShape.of(PUBLISHED[name]) == ModelShape.of(made(PUBLISHED[name]))


def test_a_config_of_qwen2_5_with_the_decoders_fields_outside_reads_the_same():
    config = QWEN2_5_VL_INSTRUCT["7B"]
    vision = {key: value for key, value in config["vision_config"].items() if key != "in_channels"} | {"in_chans": 3}
    flat = config["text_config"] | {key: config[key] for key in ("model_type", "tie_word_embeddings")}
    assert ModelShape.of({**flat, "vision_config": vision}) == ModelShape.of(config)


def test_published_sizes():
    """As the names and cards say: 30B-A3B 31.1, 235B-A22B 235.7, Qwen2.5-VL 3.75, 8.29, 33.5 and 73.4 B."""
    totals = {name.split("/")[1]: ModelShape.of(config).total / 1e9 for name, config in PUBLISHED.items()}
    assert totals["Qwen3-VL-30B-A3B-Instruct"] == pytest.approx(31.07, abs=0.01)
    assert totals["Qwen3-VL-235B-A22B-Instruct"] == pytest.approx(235.67, abs=0.01)
    for size, billions in (("3B", 3.75), ("7B", 8.29), ("32B", 33.45), ("72B", 73.41)):
        assert totals[f"Qwen2.5-VL-{size}-Instruct"] == pytest.approx(billions, abs=0.01)


def test_other_models_and_incomplete_configs_are_refused():
    with pytest.raises(ValueError, match="'glm4v' cannot be planned, only qwen3_vl, qwen3_vl_moe, qwen2_5_vl"):
        ModelShape.of({"model_type": "glm4v"})
    config = QWEN3_VL_INSTRUCT["2B"]
    text = {key: value for key, value in config["text_config"].items() if key != "head_dim"}
    with pytest.raises(ValueError, match="lacks head_dim, needed for TextShape"):
        ModelShape.of({**config, "text_config": text})
    moe = PUBLISHED["Qwen/Qwen3-VL-30B-A3B-Instruct"]
    with pytest.raises(ValueError, match="partly dense"):
        ModelShape.of({**moe, "text_config": {**moe["text_config"], "mlp_only_layers": [0]}})


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


EXPERTS = ExpertsTextShape(**vars(TEXT), num_experts=4, num_experts_per_tok=2, moe_intermediate_size=3)
WINDOWED = WindowedVisionShape(
    depth=2, hidden_size=4, intermediate_size=5, num_heads=2, in_channels=3, patch_size=2, temporal_patch_size=2,
    spatial_merge_size=2, out_hidden_size=4, window_size=8, fullatt_block_indexes=(1,),
)  # fmt: skip


def test_experts_by_hand():
    # attention 24 * 2 + 12 * 2 = 72; a router of 4 x 4; an expert of 3 matrices 4 x 3
    assert EXPERTS.layer_matrix == 72 + 16 + 4 * 36  # all that is stored
    assert EXPERTS.active_matrix == 72 + 16 + 2 * 36  # all that a token meets
    assert EXPERTS.linear_flops == 2 * 2 * 160
    # one token touches 2 of 4; the second meets either of them or not: 2 + 2 / 2; no end of tokens: all
    assert (EXPERTS.touched(1), EXPERTS.touched(2)) == (2, 3) and EXPERTS.touched(100) == pytest.approx(4)
    assert EXPERTS.unread(2) == 2 * 1 * 36 and TEXT.unread(2) == 0


def test_windows_by_hand():
    # a window's side is 8 pixels: 2 tokens of 2 x 2 patches of 2 pixels; so 16 patches
    assert WINDOWED.window == 16
    # of 64 patches: one block all 64, the other 16 of them
    assert WINDOWED.pairs(64) == 64 * (64 + 16) / 2
    assert WINDOWED.pairs(8) == 64 and VISION.pairs(8) == 64  # smaller than a window
    assert WINDOWED.block_matrix == 4 * 16 + 3 * 20


def test_twice_the_tokens_are_twice_the_linear_part_and_more_of_the_scores():
    model = ModelShape(TEXT, VISION, tied=True)
    linear, scores = model.forward_flops(tokens=8, pairs=8 * 9 / 2, images=0, patches=0)
    twice_linear, twice_scores = model.forward_flops(tokens=16, pairs=16 * 17 / 2, images=0, patches=0)
    assert (linear, scores) == (8 * 576, 36 * 48)
    assert (twice_linear, twice_scores) == (2 * linear, 136 * 48)


def counted(name: str, training: bool) -> tuple[int, ModelShape, int, int]:
    """FLOPs that torch counts on a real model: 64 tokens of which 16 show an image of 64 patches, eager attention."""
    torch.manual_seed(0)
    config = SMALL[name]
    config._attn_implementation = config._experts_implementation = "eager"
    model = AutoModelForImageTextToText.from_config(config)
    image_token = config.image_token_id
    image = [torch.tensor([config.vision_start_token_id]), torch.full((16,), image_token)]
    image.append(torch.tensor([config.vision_end_token_id]))
    words = [torch.randint(100, 900, (count,)) for count in (10, 36)]
    ids = torch.cat([words[0], *image, words[1]])[None]
    side = config.vision_config.patch_size
    inputs = dict(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        mm_token_type_ids=(ids == image_token).int(),
        pixel_values=torch.randn(64, 3 * 2 * side * side),
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


COUNTED = ["small untied", *(f"{name} False" for name in OTHERS)]


@pytest.mark.parametrize("name", COUNTED)
def test_forward_flops_are_those_that_torch_counts(name):
    flops, shape, tokens, patches = counted(name, training=False)
    # Eager attention forms all S * S scores.
    linear, scores = shape.forward_flops(tokens, tokens**2, 1, patches)
    assert flops == pytest.approx(linear + scores + tokens * shape.text.head_flops, rel=0.005)


@pytest.mark.parametrize("name", COUNTED)
def test_training_flops_are_those_that_torch_counts(name):
    flops, shape, tokens, patches = counted(name, training=True)
    linear, scores = shape.training_flops(tokens, tokens**2, 1, patches)
    eager_scores = scores * 8 / 9  # 4 products in backward where flash attention has 5: 2 + 2 + 4 for 2 + 2 + 5
    assert flops == pytest.approx(linear + eager_scores + 3 * tokens * shape.text.head_flops, rel=0.005)
