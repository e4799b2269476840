"""Students whose checkpoints are tested: what of them is trained. Imports no verl."""

LORA = {"lora_rank": 4, "lora_alpha": 12, "target_modules": "all-linear", "lora": {"merge": True}}
VARIANTS = {"all": {}, "frozen": {"frozen": ("vision", "merger")}, "lora": LORA}
REACHED_BY_NOTHING = {"all": set(), "frozen": {"model.language_model.norm.weight"}, "lora": set()}
"""Parameters that get no gradient, as if no forward reached them."""
