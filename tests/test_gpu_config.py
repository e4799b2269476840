"""The GPU config asks for nothing that requirements/gpu.txt does not install; its variables reach workers."""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from tests.stack import ROOT
from tests.test_recipes import GPU_RECIPES, composed
from verl_vaopd.doctor.environment import pins
from verl_vaopd.platform.environment import NOT_COMPILED

MODEL, ROLLOUT = "actor_rollout_ref.model", "actor_rollout_ref.rollout"
OFF = {  # optional parts of verl, and the package that each would ask for
    f"{MODEL}.use_liger": (False, "liger-kernel"),
    f"{MODEL}.mtp.enable": (False, "megatron-core"),
    f"{MODEL}.lora_rank": (0, "peft"),
    f"{ROLLOUT}.quantization": (None, "torchao"),
    f"{ROLLOUT}.name": ("vllm", "sglang"),
    f"{ROLLOUT}.checkpoint_engine.backend": ("naive", "nixl or cupy"),
    f"{ROLLOUT}.trace.backend": (None, "mlflow or weave"),
    "actor_rollout_ref.actor.strategy": ("fsdp2", "megatron-core"),
    "transfer_queue.backend.storage_backend": ("SimpleStorage", "mooncake"),
    "trainer.device": ("cuda", "torch-npu"),
}


@pytest.fixture(scope="module", params=GPU_RECIPES)
def config(request):
    """Of every GPU recipe; those of a method are the same but for the objective (tests/test_recipes.py)."""
    return composed(request.param, DATA_DIR="/data", RUN_DIR="/run/a", ANSWERS_DIR="/run/answers")


def test_attention_needs_no_package(config):
    """flash-attn has no wheel; without the setting verl asks for it (HFModelConfig)."""
    assert "flash-attn" not in pins("gpu")
    for name in (MODEL, "vaopd.teacher"):
        assert OmegaConf.select(config, f"{name}.override_config.attn_implementation") in ("auto", "sdpa"), name


def test_optional_parts_of_verl_are_off(config):
    for name, (off, package) in OFF.items():
        parent, _, key = name.rpartition(".")
        assert key in OmegaConf.select(config, parent), f"verl has no {name} any more"
        assert OmegaConf.select(config, name) == off, f"{name} needs {package}"
    assert list(config.trainer.logger) == []


def test_vllm_knows_every_option(config):
    from vllm.engine.arg_utils import AsyncEngineArgs

    known = {field.name for field in dataclasses.fields(AsyncEngineArgs)}
    assert set(config.actor_rollout_ref.rollout.engine_kwargs.vllm) <= known


def test_variables_are_those_that_vllm_reads(config):
    from vllm import envs

    variables = dict(config.ray_kwargs.ray_init.runtime_env.env_vars)
    assert NOT_COMPILED.items() <= variables.items()
    assert all(name in envs.environment_variables for name in variables if name.startswith("VLLM_"))


def test_vllm_plans_for_the_longest_sequence_there_can_be(config):
    """Null would be the model's 262,144 tokens, 28 GiB of keys and values."""
    data = config.data
    assert config.actor_rollout_ref.rollout.max_model_len == data.max_prompt_length + data.max_response_length == 12288


def test_nothing_of_the_gpu_set_is_compiled():
    """FlashInfer's sampler would be, when an engine starts: vLLM takes it unless the variable says no."""
    sampler = importlib.util.find_spec("vllm").submodule_search_locations[0] + "/v1/sample/ops/topk_topp_sampler.py"
    with open(sampler) as file:
        assert "if not envs.VLLM_USE_FLASHINFER_SAMPLER:" in file.read()
    assert not {"flash-attn", "apex", "transformer-engine"} & set(pins("gpu")) and "ninja" in pins("gpu")
    assert set(pins("gpu-flash")) == {"flash-attn"}


ACTOR = """
import json, os
from verl_vaopd.launch.main import ray_init_settings
from verl_vaopd.launch.own_cluster import keep_private
from verl_vaopd.settings.compose import compose
import tests.test_recipes as recipes
from omegaconf import OmegaConf
keep_private(os.environ)
import ray
config = recipes.composed("vaopd_8b_2b_geo3k", DATA_DIR="/data")
settings = ray_init_settings(OmegaConf.to_container(config.ray_kwargs.ray_init, resolve=True), os.environ)
ray.init(**{**settings, "num_cpus": 2, "include_dashboard": False})
@ray.remote
class Worker:
    def environment(self):
        return dict(os.environ)
print(json.dumps(ray.get(Worker.remote().environment.remote())))
ray.shutdown()
"""


@pytest.mark.stack
def test_variables_reach_a_worker(tmp_path):
    env = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "VLLM_"))}
    shown = subprocess.run(
        [sys.executable, "-c", ACTOR], cwd=ROOT, env=env, capture_output=True, text=True, timeout=300
    )
    assert shown.returncode == 0, shown.stderr
    worker = json.loads(shown.stdout.splitlines()[-1])
    assert worker["VLLM_USE_FLASHINFER_SAMPLER"] == "0"
    assert worker["PATH"].split(":")[0] == os.path.dirname(sys.executable)
    assert worker["GLOO_SOCKET_IFNAME"] == "lo"
