"""The published Qwen3-VL-Instruct configs, as far as :meth:`ModelShape.of` reads them."""


def _config(hidden: int, intermediate: int, layers: int, heads: int, tied: bool, tower: dict) -> dict:
    return {
        "model_type": "qwen3_vl",
        "tie_word_embeddings": tied,
        "text_config": {
            "vocab_size": 151936,
            "hidden_size": hidden,
            "intermediate_size": intermediate,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": 8,
            "head_dim": 128,
        },
        "vision_config": {
            **tower,
            "num_heads": 16,
            "in_channels": 3,
            "patch_size": 16,
            "temporal_patch_size": 2,
            "spatial_merge_size": 2,
            "num_position_embeddings": 2304,
            "out_hidden_size": hidden,
        },
    }


_TOWER = {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "deepstack_visual_indexes": [5, 11, 17]}
_LARGE_TOWER = {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "deepstack_visual_indexes": [8, 16, 24]}

QWEN3_VL_INSTRUCT = {
    "2B": _config(2048, 6144, 28, 16, True, _TOWER),
    "4B": _config(2560, 9728, 36, 32, True, _TOWER),
    "8B": _config(4096, 12288, 36, 32, False, _LARGE_TOWER),
    "32B": _config(5120, 25600, 64, 64, False, _LARGE_TOWER),
}
"""What the ``config.json`` of Qwen/Qwen3-VL-<size>-Instruct says, as far as :meth:`ModelShape.of` reads it."""
