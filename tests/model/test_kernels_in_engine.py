"""Every kernel in the student's engine under FSDP2, over gloo: made once a forward, and no hindrance to an export."""

import json

import pytest
import torch
from transformers import AutoModelForImageTextToText

from tests.random_models import make_checkpoint
from tests.stack import run_ranks
from verl_vaopd.model.attention import NAMES
from verl_vaopd.model.kernels import KERNELS

pytestmark = pytest.mark.slow

LAYERS = 3


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kernels")
    make_checkpoint(folder / "student", hidden=64, layers=LAYERS, head_rows=112, tied=True, seed=0)
    run_ranks("tests.model.kernels_rank", (1,), folder)
    return folder, torch.load(folder / "results.pt", weights_only=False)


@pytest.mark.parametrize("name", KERNELS)
def test_masks_and_bounds_are_made_once_a_forward(saved, name):
    # Three prompts with four responses each: nine branches, of 1, 4 and 9 tokens behind three prompts of unlike length.
    made = {"sdpa": {"branch_mask": 9}}.get(name, {"branch_bounds": 1})
    assert saved[1][name]["made"] == made


@pytest.mark.parametrize("name", ["unset", *KERNELS])
def test_kernels_agree_also_after_a_save(saved, name):
    wanted = saved[1]["sdpa"]["logits"]
    for got in (saved[1][name]["logits"], saved[1][name]["after saving"]):
        assert (got - wanted).abs().max() < 1e-4  # logits of size 30


@pytest.mark.parametrize("name", ["unset", *KERNELS])
def test_the_engine_decides_and_not_the_host(saved, name):
    """Which means flash_attention_2 where nothing is set. The vision tower has sdpa."""
    result = saved[1][name]
    assert result["asked"] == [("auto" if name == "unset" else name, "cpu", torch.float32)]
    assert result["names"] == (NAMES["sdpa" if name == "unset" else name], "sdpa")


@pytest.mark.parametrize("name", ["unset", *KERNELS])
def test_an_export_loads_where_no_kernel_is_installed(saved, name):
    folder = saved[0] / name / "huggingface"
    config = json.loads((folder / "config.json").read_text())
    for part in (config, config["text_config"], config["vision_config"]):
        assert not [key for key in part if "attn_implementation" in key]
    model, report = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert model.config.text_config._attn_implementation == "sdpa"


@pytest.mark.parametrize("kernel", KERNELS)
def test_no_name_is_taken_for_a_package(kernel):
    assert "flash" not in NAMES[kernel]
