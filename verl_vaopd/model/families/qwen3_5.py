"""Qwen3.5, dense and mixture of experts: three of four layers are a recurrence, which cannot branch."""

from verl_vaopd.model.families.patch_grid import PatchGridFamily


class Qwen3_5(PatchGridFamily):
    """Source: https://huggingface.co/docs/transformers/model_doc/qwen3_5."""

    model_types = ("qwen3_5", "qwen3_5_moe")
    wrong_on_cpu = "it runs the recurrence in bfloat16 alone and, with AMX, packs convolutions: none can be sent anew"
