"""Names under which weights go to vLLM and into an exported folder: those that vLLM reads from the hub."""

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForImageTextToText

from tests.random_configs import CONFIGS
from tests.random_models import load, make_checkpoint
from verl_vaopd.student.hugging_face import write_student
from verl_vaopd.student.sent_names import by_hub_names, keep_hub_names


def stored(folder) -> dict[str, torch.Tensor]:
    with safe_open(folder / "model.safetensors", "pt") as f:
        return {name: f.get_tensor(name) for name in f.keys()}


@pytest.mark.parametrize("family", ["llava_onevision", "gemma3", "llava"])
def test_a_tower_whose_prefix_transformers_lost_has_it_again(tmp_path, family):
    make_checkpoint(tmp_path / "hub", 64, 2, head_rows=112, tied=True, seed=0, family=family)
    on_disk = stored(tmp_path / "hub")
    assert "vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight" in on_disk
    assert "language_model.model.embed_tokens.weight" in on_disk
    module = load(tmp_path / "hub")
    in_memory = dict(module.named_parameters())
    assert keep_hub_names(module)
    sent = dict(by_hub_names(module, in_memory.items()))
    assert set(sent) == set(on_disk)
    assert all(torch.equal(sent[name], value) for name, value in on_disk.items())

    # A folder that plain transformers wrote for a model of its own, without the prefix, makes no difference.
    made = AutoModelForImageTextToText.from_config(CONFIGS[family](64, 2, 112, True))
    made.save_pretrained(tmp_path / "made")
    assert not any("vision_model" in name for name in stored(tmp_path / "made"))
    module = load(tmp_path / "made")
    assert keep_hub_names(module)
    assert {name for name, _ in by_hub_names(module, module.named_parameters())} == set(on_disk)

    write_student(tmp_path / "written", module.config, dict(in_memory))
    assert set(stored(tmp_path / "written")) == set(on_disk)


@pytest.mark.parametrize("family", ["qwen3_vl", "qwen2_5_vl", "internvl", "qwen3_5"])
def test_others_are_sent_by_the_names_in_memory_which_vllm_knows_too(family):
    with torch.device("meta"):
        made = AutoModelForImageTextToText.from_config(CONFIGS[family](64, 2, 112, True))
    assert not keep_hub_names(made)
