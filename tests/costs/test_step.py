import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.costs.test_shapes import TEXT, VISION
from verl_vaopd.costs.assumptions import STANDARD_OPD, VA_OPD, Assumptions
from verl_vaopd.costs.devices import DEVICES, Device
from verl_vaopd.costs.phase import Phase
from verl_vaopd.costs.published import QWEN3_VL_INSTRUCT
from verl_vaopd.costs.shapes import ModelShape
from verl_vaopd.costs.step import Step
from verl_vaopd.costs.workload import Workload

ROOFLINE = Path(__file__).parents[2] / "benchmarks/roofline.py"
STUDENT = ModelShape(TEXT, VISION, tied=True)
TEACHER = ModelShape(replace(TEXT, num_hidden_layers=3), VISION, tied=False)
# 2 prompts of 8 tokens, 4 of them image; rollouts of 5, 3, 3, 3 tokens
LOAD = Workload(prompts=2, rollouts=2, prompt_tokens=8, image_share=0.5, response_mean=3.5, response_longest=5)
DEVICE = Device("made up", bf16_flops=10, hbm=5, nvlink=2, pcie=1, memory=1000, source="")


def step(implementation=VA_OPD, workload=LOAD, gpus=1, **assumptions) -> Step:
    return Step(TEACHER, STUDENT, workload, implementation, DEVICE, gpus, Assumptions(**assumptions))


def phase(name, *args, **kwargs) -> Phase:
    (found,) = (phase for phase in step(*args, **kwargs).phases() if phase.name == name)
    return found


def test_workload_counts():
    assert LOAD.count == 4 and LOAD.other_length == 3 and LOAD.response_tokens == 14
    assert LOAD.image_tokens == 4 and step().patches(TEACHER) == 16
    # R = 5 after 8: 9 + 10 + 11 + 12 + 13 = 55; R = 3: 9 + 10 + 11 = 30
    assert LOAD.response_pairs(1) == 55 and LOAD.response_pairs(4) == 55 + 3 * 30
    assert replace(LOAD, response_mean=5).response_pairs(4) == 4 * 55


def attended(lengths: list[int]) -> int:
    """Query-key pairs of causal sequences, counted one by one."""
    return sum(1 for length in lengths for query in range(length) for key in range(length) if key <= query)


def test_tokens_and_pairs_of_a_view():
    unshared, shared = step(STANDARD_OPD), step(VA_OPD)
    assert unshared.tokens == 13 + 3 * 11 and unshared.pairs == attended([13, 11, 11, 11])
    # Shared: the 8 * 9 / 2 = 36 pairs within the prompt are formed for 2 prompts, not for 4 rollouts.
    assert shared.tokens == 2 * 8 + 14 and shared.pairs == unshared.pairs - 2 * 36


def test_teacher_flops_by_hand():
    linear, score, head = TEACHER.text.linear_flops, TEACHER.text.score_flops, TEACHER.text.head_flops
    image = 16 * VISION.linear_flops + 16 * 16 * VISION.score_flops
    assert phase("teacher", STANDARD_OPD).flops == 46 * linear + (91 + 3 * 66) * score + 4 * image + 14 * head
    one_view = 30 * linear + (2 * 36 + 145) * score + 2 * image + 14 * head
    assert phase("teacher", VA_OPD).flops == 2 * one_view


def test_two_views_cost_twice_without_siblings_and_less_with_them():
    def ratio(rollouts):
        load = replace(LOAD, prompts=4, rollouts=rollouts)
        return phase("teacher", VA_OPD, load).flops / phase("teacher", STANDARD_OPD, load).flops

    assert ratio(1) == 2
    assert 2 > ratio(2) > ratio(4) > ratio(8)


def test_without_an_image_there_is_one_view():
    text_only = replace(LOAD, image_share=0, rollouts=1, response_longest=3.5, response_mean=3.5)
    assert phase("teacher", VA_OPD, text_only).flops == phase("teacher", STANDARD_OPD, text_only).flops


def test_student_flops():
    linear, scores = STUDENT.training_flops(tokens=30, pairs=2 * 36 + 145, images=2, patches=16)
    heads = 3 * STUDENT.text.head_flops + TEACHER.text.head_flops
    assert phase("student", VA_OPD).flops == linear + scores + 14 * heads
    linear, scores = STUDENT.training_flops(tokens=46, pairs=289, images=4, patches=16)
    assert phase("student", STANDARD_OPD).flops == linear + scores + 14 * 3 * STUDENT.text.head_flops


def test_decoding_by_hand():
    decode = phase("generation: decode", decode_latency=0.5)
    weights = STUDENT.total - VISION.parameters  # tied: the embedding is the head
    assert decode.hbm == 5 * 2 * weights + 145 * TEXT.kv_bytes  # 5 steps, for the longest
    assert decode.flops == 14 * (TEXT.linear_flops + TEXT.head_flops) + 145 * TEXT.score_flops
    assert decode.latency == 5 * 0.5
    # Of 2 GPUs the one that counts has the longest and one other; every step still reads all weights.
    assert phase("generation: decode", gpus=2).hbm == 5 * 2 * weights + (55 + 30) * TEXT.kv_bytes


def test_a_prompt_is_prefilled_once():
    few, many = (phase("generation: prefill", workload=replace(LOAD, rollouts=k)) for k in (2, 4))
    assert few.flops == many.flops
    linear, scores = STUDENT.forward_flops(tokens=16, pairs=2 * 36, images=2, patches=16)
    assert few.flops == linear + scores


def test_a_policy_forms_its_logits_twice_and_needs_no_teacher():
    policy = replace(VA_OPD, teacher_views=0, distils=False)
    assert "teacher" not in [each.name for each in step(policy).phases()]
    linear, scores = STUDENT.training_flops(tokens=30, pairs=2 * 36 + 145, images=2, patches=16)
    assert phase("student", policy).flops == linear + scores + 14 * 4 * STUDENT.text.head_flops
    assert "hidden states" not in phase("student", policy).memory and "teacher head" not in step(policy).resident
    both = replace(VA_OPD, rewarded=True)
    assert phase("student", both).flops - phase("student").flops == 14 * 4 * STUDENT.text.head_flops
    # PAPO: rows and prompts under two views
    papo = replace(policy, student_views=2)
    assert phase("student", papo).flops == 2 * phase("student", policy).flops
    assert step(papo, replace(LOAD, image_share=0)).student_views == 1


def test_collectives_by_hand():
    assert all(phase.nvlink == 0 for phase in step(gpus=1).phases())
    # Of 4 GPUs each receives 3/4 of the bytes. Teacher: bf16 once; student: bf16 twice, gradients in fp32 once.
    assert phase("teacher", gpus=4).nvlink == 2 * TEACHER.total * 3 / 4
    assert phase("student", gpus=4).nvlink == (2 * 2 + 4) * STUDENT.total * 3 / 4
    assert phase("weight sync", gpus=4).nvlink == 4 * STUDENT.total * 3 / 4


def test_micro_batches_gather_again_and_hold_less():
    whole, split = phase("teacher", gpus=2), phase("teacher", gpus=2, micro_batch_tokens=15)
    # 30 tokens of a view over 2 GPUs, 2 views: 30 tokens a GPU, 2 micro-batches of 15
    assert split.nvlink == 2 * whole.nvlink and split.flops == whole.flops
    assert split.memory["pixels"] == whole.memory["pixels"] / 2


def test_host_copies():
    hidden = 2 * 14 * TEACHER.text.hidden_size
    assert phase("teacher", VA_OPD).host == 2 * 2 * TEACHER.total + hidden  # shards in and out, hidden states out
    assert phase("student", VA_OPD).host == hidden
    assert phase("teacher", STANDARD_OPD).host == phase("student", STANDARD_OPD).host == 0


def test_memory_by_hand():
    head = 2 * 10 * 4
    # fp32 weights, two AdamW states, gradients, a temporary: 20 bytes a parameter, over 2 GPUs; the teacher's head
    assert phase("optimiser", VA_OPD, gpus=2).peak_memory == 20 * STUDENT.total / 2 + head
    assert phase("optimiser", STANDARD_OPD, gpus=2).peak_memory == 20 * STUDENT.total / 2 + 2 * TEACHER.total / 2
    assert phase("generation: decode", vllm_memory=0.5).memory["vLLM"] == 500
    assert Phase("", memory={"a": 1, "b": 3}).peak_memory == 4
    assert Phase("", memory={"a": 1, "b": 3}).largest_part == "b"


def test_what_grows_with_response_tokens_times_vocabulary():
    def growth(implementation, vocabulary):
        models = [replace(model, text=replace(model.text, vocab_size=vocabulary)) for model in (TEACHER, STUDENT)]
        short, long = (
            Step(*models, replace(LOAD, response_mean=r, response_longest=r), implementation, DEVICE, 1)
            for r in (300, 600)  # 1200 and 2400 rows, more than a chunk has
        )
        short, long = (
            next(phase.memory for phase in each.phases() if phase.name == "student") for each in (short, long)
        )
        return {part: long[part] - short[part] for part in long if long[part] != short[part]}

    per_token = 1200 * 1000  # rows more x vocabulary
    held = growth(STANDARD_OPD, 1000)
    assert held["student logits and their gradient"] == 2 * 2 * per_token and held["teacher logits"] == 2 * per_token
    assert growth(VA_OPD, 1000) == growth(VA_OPD, 2000)


def test_seconds_are_the_roofline_plus_what_does_not_overlap():
    assumptions = Assumptions(compute=0.5, hbm=1, nvlink=1, pcie=0.5)
    work = Phase("", flops=100, hbm=40, nvlink=10, host=3, latency=2)
    # compute 100 / 5, HBM 40 / 5, NVLink 10 / 2, host 3 / 0.5
    assert work.seconds(DEVICE, assumptions) == 20 + 6 + 2
    assert work.bound(DEVICE, assumptions) == "compute"
    assert replace(work, hbm=200).seconds(DEVICE, assumptions) == 40 + 6 + 2
    assert replace(work, nvlink=100).bound(DEVICE, assumptions) == "NVLink"


def test_a_step_is_the_sum_of_its_phases():
    whole = step(gpus=2)
    assert whole.seconds == pytest.approx(sum(p.seconds(DEVICE, whole.assumptions) for p in whole.phases()))
    assert whole.peak.peak_memory == max(p.peak_memory for p in whole.phases())


def test_hidden_states_and_chunks_need_less_memory_than_logits_at_the_papers_size():
    shapes = {size: ModelShape.of(QWEN3_VL_INSTRUCT[size]) for size in ("8B", "2B")}
    device = DEVICES["a100-80g"]
    student = {
        made.name: Step(shapes["8B"], shapes["2B"], Workload(), made, device).phases()[4]
        for made in (VA_OPD, STANDARD_OPD)
    }
    assert {phase.name for phase in student.values()} == {"student"}
    assert student[VA_OPD.name].peak_memory < student[STANDARD_OPD.name].peak_memory
    assert student[STANDARD_OPD.name].largest_part == "student logits and their gradient"


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(prompts=0), "prompts must be at least 1"),
        (dict(image_share=1.5), "image_share"),
        (dict(response_mean=4000, response_longest=2000), "below the mean"),
        (dict(response_mean=2, response_longest=4096), "cannot hold one of 4096"),
        (dict(prompts=1, rollouts=1), "a single rollout"),
    ],
)
def test_impossible_workloads_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Workload(**settings)


def test_no_gpu_is_refused():
    with pytest.raises(ValueError, match="gpus"):
        step(gpus=0)


def run(*arguments):
    return subprocess.run([sys.executable, str(ROOFLINE), *arguments], capture_output=True, text=True)


def test_roofline_prints_and_saves_every_table(tmp_path):
    result = run("--response-mean", "900", "--save", str(tmp_path / "page.md"))
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "page.md").read_text() == result.stdout
    assert result.stdout.count("\n## 8B to 2B") == result.stdout.count("\n## 32B to 2B") == 6
    assert result.stdout.count("| weight sync |") == 12
    assert "900 tokens on average" in result.stdout and "106 s a step" in result.stdout
    assert "reached share of peak HBM bandwidth: 0.8" in result.stdout


def test_roofline_leaves_the_papers_figure_out_where_batch_or_gpus_differ():
    assert "paper's own figure" not in run("--gpus", "4").stdout
    assert "paper's own figure" not in run("--prompts", "32").stdout


def test_roofline_names_a_wrong_setting():
    result = run("--image-share", "2")
    assert result.returncode == 2 and "image_share must be in [0, 1], got 2.0" in result.stderr
