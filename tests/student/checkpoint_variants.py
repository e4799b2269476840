"""Students whose checkpoints are tested: what of them is trained, and of which families. Imports no verl."""

LORA = {"lora_rank": 4, "lora_alpha": 12, "target_modules": "all-linear", "lora": {"merge": True}}
VARIANTS = {"all": {}, "frozen": {"frozen": ("vision", "merger")}, "lora": LORA}
REACHED_BY_NOTHING = {"all": set(), "frozen": {"model.language_model.norm.weight"}, "lora": set()}
"""Parameters that get no gradient, as if no forward reached them."""
FAMILIES = ("qwen2_5_vl", "qwen2_vl", "glm4v", "internvl", "qwen3_5", "gemma3", "llava_onevision", "llava")
"""Other than Qwen3-VL, whose checkpoints go from two ranks to one."""
