"""A Qwen3-VL-MoE checkpoint as the hub has it and as transformers saves it hold the same teacher."""

import shutil

import torch
from safetensors.torch import load_file, save_file

from tests.random_models import load, make_checkpoint

EXPERTS = ("experts.gate_up_proj", "experts.down_proj")


def test_both_layouts_of_experts_load_alike(tmp_path):
    """The hub's experts are [experts, in, out], what transformers 5 saves is [experts, out, in]."""
    make_checkpoint(tmp_path / "saved", 64, 2, head_rows=112, tied=False, seed=0, family="qwen3_vl_moe")
    shutil.copytree(tmp_path / "saved", tmp_path / "hub")
    weights = load_file(tmp_path / "saved" / "model.safetensors")
    turned = {
        name: value.transpose(1, 2).contiguous() if name.endswith(EXPERTS) else value for name, value in weights.items()
    }
    assert sum(name.endswith(EXPERTS) for name in weights) == 4  # two layers
    save_file(turned, tmp_path / "hub" / "model.safetensors", metadata={"format": "pt"})
    saved, hub = (dict(load(tmp_path / name).named_parameters()) for name in ("saved", "hub"))
    assert all(torch.equal(parameter, hub[name]) for name, parameter in saved.items())
