"""Qwen2-VL."""

from verl_vaopd.model.families.patch_grid import PatchGridFamily


class Qwen2VL(PatchGridFamily):
    """Source: https://huggingface.co/docs/transformers/model_doc/qwen2_vl."""

    model_types = ("qwen2_vl",)
