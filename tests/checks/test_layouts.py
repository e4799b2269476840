"""Families, layouts and what vLLM serves: refused by name before anything is loaded."""

import json
from types import SimpleNamespace

import pytest
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from tests.random_configs import CONFIGS
from verl_vaopd.checks.layouts import layouts_of, padded_words


def config(device="cuda", layout="auto", ranks=1, rank=0, merge=True, images=None, **overrides):
    return SimpleNamespace(
        trainer=SimpleNamespace(device=device),
        vaopd=SimpleNamespace(layout=layout, teacher=SimpleNamespace(override_config={})),
        actor_rollout_ref=SimpleNamespace(
            model=SimpleNamespace(override_config=overrides, lora_rank=rank, lora=SimpleNamespace(merge=merge)),
            actor=SimpleNamespace(ulysses_sequence_parallel_size=ranks),
            rollout=SimpleNamespace(engine_kwargs=SimpleNamespace(vllm={"limit_mm_per_prompt": images})),
        ),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of checkpoints without weights that anyone would load."""
    folder = tmp_path_factory.mktemp("families")
    for family, made in CONFIGS.items():
        save(
            folder / family, made(64, 2, 112, True), architectures=[MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES[family]]
        )
    return folder


def save(path, made, **more):
    made.save_pretrained(path)
    written = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**written, **more}))
    header = json.dumps({}).encode()
    (path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    return path


@pytest.mark.parametrize("family", CONFIGS)
def test_auto_is_the_faster_layout_that_fits(folder, family):
    layout = "padded" if family in ("qwen3_5", "gemma3", "llava_onevision", "llava") else "packed"
    found = layouts_of(config(), {"student": folder / "qwen3_vl", "teacher": folder / family})
    assert found == {"student": ("qwen3_vl", "packed"), "teacher": (family, layout)}
    assert len(padded_words(found)) == (layout == "padded")


@pytest.mark.parametrize(
    "family, given, says",
    [
        ("gemma3", dict(layout="packed"), "vaopd.layout='packed': must be one of auto, padded for a gemma3 model"),
        ("gemma3", dict(ranks=2), "ulysses_sequence_parallel_size=2: the padded layout does not spread a sequence"),
        ("gemma3", dict(attn_implementation="flash_attention_2"), "the padded layout runs sdpa; set auto or sdpa"),
        ("gemma3", dict(device="cpu"), "a gemma3 student needs a GPU"),
        ("qwen3_vl_moe", dict(), "a qwen3_vl_moe student is not supported"),
        ("qwen3_5", dict(device="cpu"), "a qwen3_5 student needs a GPU"),
        ("qwen3_5", dict(device="cpu", images={"image": 0}), "it runs the recurrence in bfloat16 alone"),
        ("gemma3", dict(device="cpu", images={"video": 0}), "without images it is right, set actor_rollout_ref"),
    ],
)
def test_what_a_layout_does_not_follow_is_refused(folder, family, given, says):
    with pytest.raises(ValueError) as refused:
        layouts_of(config(**given), {"student": folder / family})
    assert says in str(refused.value) and str(folder / family) in str(refused.value)


def test_a_student_that_the_cpu_serves_rightly_without_images_runs_without_them(folder):
    given = config(device="cpu", images={"image": 0})
    assert layouts_of(given, {"student": folder / "gemma3"}) == {"student": ("gemma3", "padded")}


def test_a_window_of_attention_takes_an_internvl_to_the_padded_layout(tmp_path):
    made = CONFIGS["internvl"](64, 2, 112, True)
    made.text_config.layer_types = ["full_attention", "sliding_attention"]
    assert layouts_of(config(), {"student": save(tmp_path / "m", made)}) == {"student": ("internvl", "padded")}


def test_a_capped_head_is_refused(tmp_path):
    made = CONFIGS["gemma3"](64, 2, 112, True)
    made.text_config.final_logit_softcapping = 30.0
    with pytest.raises(ValueError, match=r"capped or scaled \(final_logit_softcapping=30.0\)"):
        layouts_of(config(), {"teacher": save(tmp_path / "m", made)})


@pytest.mark.slow
def test_a_student_that_vllm_does_not_serve_is_refused(tmp_path):
    made = CONFIGS["llava_onevision"](64, 2, 112, True)
    path = save(tmp_path / "m", made, model_type="video_llava", architectures=["VideoLlavaForConditionalGeneration"])
    with pytest.raises(ValueError, match="vLLM does not serve"):
        layouts_of(config(), {"student": path})


@pytest.mark.slow
def test_adapters_that_vllm_would_not_take_are_refused_unless_they_are_merged(folder):
    """Of the families here LLaVA-OneVision alone: the others' classes in vLLM say that they do."""
    student = {"student": folder / "llava_onevision"}
    with pytest.raises(ValueError, match=r"lora.merge=False: vLLM serves LlavaOnevisionFor.* without adapters; set it"):
        layouts_of(config(rank=8, merge=False), student)
    for given in (dict(rank=8), dict(merge=False)):
        assert layouts_of(config(**given), student) == {"student": ("llava_onevision", "padded")}
    for family in ("qwen3_vl", "qwen2_5_vl", "qwen2_vl", "glm4v", "internvl", "gemma3", "llava"):
        layouts_of(config(rank=8, merge=False), {"student": folder / family})
