"""Names under which weights go to vLLM, which reads those of a checkpoint."""

import pytest
import torch
from safetensors import safe_open

from tests.random_models import load, make_checkpoint
from verl_vaopd.student.sent_names import by_hub_names


@pytest.mark.parametrize("family", ["llava_onevision", "gemma3", "qwen2_5_vl"])
def test_weights_are_sent_by_the_names_they_have_on_disk(tmp_path, family):
    make_checkpoint(tmp_path, 64, 2, head_rows=112, tied=True, seed=0, family=family)
    with safe_open(tmp_path / "model.safetensors", "pt") as f:
        on_disk = {name: f.get_tensor(name) for name in f.keys()}
    module = load(tmp_path)
    in_memory = dict(module.named_parameters())
    assert set(in_memory) != set(on_disk)
    sent = dict(by_hub_names(module, in_memory.items()))
    assert set(sent) == set(on_disk)
    assert all(torch.equal(sent[name], value) for name, value in on_disk.items())
