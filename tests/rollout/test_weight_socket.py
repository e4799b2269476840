"""vLLM's Qwen3-VL after a sleep: new weights, and no leftover where image features of the first layers go."""

import os
import subprocess
import sys

import pytest
import torch
from vllm.model_executor.models.qwen3_vl import Qwen3VLForConditionalGeneration

from verl_vaopd.rollout.deepstack import zero_deepstack_buffers

pytestmark = pytest.mark.slow


class Wrapped:
    """As vLLM's CUDAGraphWrapper: attributes are those of the model inside."""

    def __init__(self, model):
        self.runnable = model

    def __getattr__(self, name):
        return getattr(self.runnable, name)


@pytest.fixture
def model():
    """vLLM's class with the attributes of its deepstack, without weights: 4 tokens, width 3, two levels."""
    model = Qwen3VLForConditionalGeneration.__new__(Qwen3VLForConditionalGeneration)
    torch.nn.Module.__init__(model)
    model.deepstack_num_level = 2
    model.config = type("config", (), {"text_config": type("text", (), {"hidden_size": 3})})
    model.deepstack_input_embeds = [torch.zeros(4, 3) for _ in range(2)]
    model.deepstack_input_embeds_num_tokens = 0
    return model


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("resized", [False, True])
def test_a_prompt_without_image_reads_zeros_after_a_sleep(model, wrapped, resized):
    if resized:
        with torch.inference_mode():  # in a forward, when a batch is larger than planned
            model._resize_deepstack_input_embeds(6)
    with torch.inference_mode():
        for buffer in model.deepstack_input_embeds:
            buffer.fill_(float("nan"))  # what the pages that waking maps happen to hold
    assert not model._get_deepstack_input_embeds(4)["deepstack_input_embeds_0"].isfinite().any()
    zero_deepstack_buffers(Wrapped(model) if wrapped else model)
    read = model._get_deepstack_input_embeds(4)
    assert all((read[f"deepstack_input_embeds_{level}"] == 0).all() for level in range(2))


def test_a_model_without_deepstack_is_left_alone():
    zero_deepstack_buffers(torch.nn.Linear(2, 2))


def test_new_weights_are_followed_by_it():
    """What verl calls in each vLLM worker; the host's part does nothing here. In a process of its own: verl on CPU."""
    code = """if True:
        import torch
        from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension as Host
        from verl_vaopd.rollout.weight_socket import PrivateSocketExtension
        Host.update_weights_from_ipc = lambda self, **given: print(given)
        model = torch.nn.Module()
        model.deepstack_input_embeds = [torch.full((2, 2), float("nan"))]
        PrivateSocketExtension._iter_all_models = lambda self: [model]
        object.__new__(PrivateSocketExtension).update_weights_from_ipc(use_shm=True)
        print(model.deepstack_input_embeds[0].tolist())
    """
    env = {**os.environ, "VERL_PLATFORM": "cpu"}
    shown = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.splitlines()[-2:] == ["{'use_shm': True}", "[[0.0, 0.0], [0.0, 0.0]]"]
