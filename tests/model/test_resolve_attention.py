"""Which kernel a setting means on a machine."""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest
import torch

from verl_vaopd.model.kernels import resolve_attention

HERE, BROKEN, ABSENT = "here", "broken", "absent"
BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32
MEANT = [  # asked, flash-attn, device, dtype, kernel
    ("auto", HERE, "cuda", BF16, "flash_attention_2"),
    ("auto", ABSENT, "cuda", BF16, "varlen"),
    ("auto", BROKEN, "cuda", BF16, "varlen"),
    ("auto", ABSENT, "cuda", FP16, "varlen"),
    ("auto", HERE, "cuda", FP32, "sdpa"),  # varlen kernels compute in halves
    ("auto", HERE, "cpu", BF16, "sdpa"),
    ("auto", ABSENT, "cpu", FP32, "sdpa"),
    ("varlen", HERE, "cuda", BF16, "varlen"),
    ("flash_attention_2", HERE, "cuda", BF16, "flash_attention_2"),
    ("sdpa", HERE, "cuda", BF16, "sdpa"),
    ("sdpa", ABSENT, "cpu", FP32, "sdpa"),
]
REFUSED = [  # asked, flash-attn, device, dtype, words of the cure
    ("flash_attention_2", ABSENT, "cuda", BF16, "auto or varlen, or flash-attn installed .*not installed"),
    ("flash_attention_2", BROKEN, "cuda", BF16, "auto or varlen, .*cannot be imported: undefined symbol"),
    ("flash_attention_2", HERE, "cpu", FP32, "auto or sdpa: .*GPUs in bf16 or fp16, this is cpu in torch.float32"),
    ("varlen", HERE, "cuda", FP32, "auto or sdpa"),
    ("varlen", HERE, "cpu", BF16, "auto or sdpa"),
    ("eager", HERE, "cuda", BF16, "one of auto, flash_attention_2, varlen, sdpa"),
]


@pytest.fixture
def flash_attn(monkeypatch, tmp_path):
    def arrange(state: str) -> None:
        monkeypatch.delitem(sys.modules, "flash_attn", raising=False)
        if state == HERE:
            module = ModuleType("flash_attn")
            module.__spec__ = ModuleSpec("flash_attn", None)
            monkeypatch.setitem(sys.modules, "flash_attn", module)
        elif state == BROKEN:  # built for another torch
            (tmp_path / "flash_attn.py").write_text("raise ImportError('undefined symbol')")
            monkeypatch.syspath_prepend(tmp_path)
        else:
            monkeypatch.setitem(sys.modules, "flash_attn", None)
            monkeypatch.setattr("verl_vaopd.model.kernels.find_spec", lambda name: None)

    return arrange


@pytest.mark.parametrize("asked, state, device, dtype, kernel", MEANT)
def test_what_a_setting_means(flash_attn, asked, state, device, dtype, kernel):
    flash_attn(state)
    assert resolve_attention(asked, device, dtype) == kernel


@pytest.mark.parametrize("asked, state, device, dtype, cure", REFUSED)
def test_what_cannot_run_is_refused_with_its_cure(flash_attn, asked, state, device, dtype, cure):
    flash_attn(state)
    with pytest.raises(ValueError, match=f"attn_implementation='{asked}': must be {cure}.*override_config"):
        resolve_attention(asked, device, dtype)
