"""The most memory of each phase, by hand on small shapes."""

from dataclasses import replace

import pytest

from tests.costs.test_shapes import TEXT, VISION
from verl_vaopd.costs.held import Loss, MicroBatch, fullest, student_moments, teacher_moments
from verl_vaopd.costs.shapes import ModelShape
from verl_vaopd.costs.trained import Learns
from verl_vaopd.planning import memory
from verl_vaopd.planning.checkpoints import checkpoint_bytes
from verl_vaopd.planning.memory import RESERVE, VLLM_WORK, Settings
from verl_vaopd.planning.needs import Needs

STUDENT = ModelShape(TEXT, VISION, tied=True)
TEACHER = ModelShape(replace(TEXT, num_hidden_layers=3), VISION, tied=False)
SMALL = Settings(
    student=STUDENT,
    teacher=TEACHER,
    gpus=2,
    teacher_gpus=2,
    colocated=True,
    prompts=4,
    rollouts=2,
    prompt_limit=10,
    response_limit=5,
    student_tokens=1000,
    teacher_tokens=30,
    sequence_parallel=1,
    checkpointing=True,
    student_offload=False,
    optimizer_offload=False,
    teacher_offload=False,
    tensor_parallel=1,
    vllm_share=0.5,
    chunk_rows=8,
    sync_bucket=64,
)


def parts(name: str, plan: Settings = SMALL) -> dict[str, float]:
    (found,) = (phase for phase in memory.phases(plan, 100e9) if phase.name == name)
    return found.parts


def test_what_stays_on_a_gpu_between_phases():
    kept = parts("generation")
    assert kept["student weights"] == 4 * STUDENT.total / 2 and kept["AdamW states"] == 8 * STUDENT.total / 2
    assert kept["teacher weights"] == 2 * TEACHER.total / 2 and kept["teacher head"] == 2 * TEACHER.head_size
    assert kept["vLLM weights"] == 2 * STUDENT.total and kept["reserve (assumed)"] == RESERVE
    assert kept["vLLM keys and values"] == 0.5 * 100e9 - 2 * STUDENT.total - VLLM_WORK


def test_offloaded_shards_are_on_the_gpu_in_their_own_phase_only():
    away = replace(SMALL, teacher_offload=True, optimizer_offload=True, student_offload=True)
    shards = {"teacher weights", "AdamW states", "student weights"}
    assert not shards & set(parts("generation", away))
    assert "teacher weights" in parts("teacher", away) and "AdamW states" not in parts("teacher", away)
    assert {"AdamW states", "student weights"} <= set(parts("student", away))
    assert memory.host_bytes(away, gpus_per_node=2) == 12 * STUDENT.total + 2 * TEACHER.total
    assert memory.host_bytes(SMALL, gpus_per_node=2) == 0


def test_a_teacher_of_its_own_pool_is_not_beside_the_student():
    own = replace(SMALL, colocated=False, teacher_gpus=1)
    assert "teacher weights" not in parts("generation", own)
    assert "AdamW states" not in parts("teacher", own)
    assert parts("teacher", own)["teacher weights"] == 2 * TEACHER.total  # one GPU holds all of it


def test_the_largest_micro_batch():
    # 8 rollouts on 2 ranks: 4 a rank, of 2 prompts: 2 * 10 + 4 * 5 tokens a view, 2 * 10 of them image at most
    assert SMALL.rank_rollouts == 4 and SMALL.rank_prompts(4) == 2
    # keys: 20 response tokens and the prompts of the two rollouts that share theirs
    assert SMALL.batch(STUDENT, 1000, 4, views=1) == MicroBatch(tokens=40, patches=4 * 20, rows=20, keys=20 + 2 * 10)
    assert SMALL.batch(STUDENT, 1000, 4, views=2) == MicroBatch(tokens=80, patches=4 * 40, rows=40, keys=40 + 4 * 10)
    assert SMALL.batch(STUDENT, 30, 4, views=2) == MicroBatch(tokens=30, patches=4 * 30, rows=30, keys=30 + 4 * 10)
    # two sequence-parallel ranks halve the decoder's share; each runs the whole vision tower
    assert SMALL.batch(STUDENT, 1000, 4, views=1, ranks=2) == MicroBatch(tokens=20, patches=80, rows=10, keys=20)
    # ranks begin with a whole prompt where its rollouts divide evenly; 3 rollouts of K = 2 come from 2 prompts
    assert SMALL.rank_prompts(3) == 2 and SMALL.rank_prompts(1) == 1
    assert replace(SMALL, gpus=4, sequence_parallel=2).rank_rollouts == 4


def test_the_student_at_its_fullest():
    batch = MicroBatch(tokens=40, patches=80, rows=20, keys=40)
    moments = student_moments(STUDENT, batch, checkpointing=True, loss=Loss(distils=True, chunk_rows=8))
    held = parts("student")
    assert fullest(moments).items() <= held.items()
    # of all 4 rollouts of 5 tokens: handed over, a column, the mini-batch's, its micro-batches'
    assert held["hidden states"] == 4 * 2 * TEXT.hidden_size * 4 * 5
    assert held["gradients"] == 4 * STUDENT.total / 2
    for elsewhere in (replace(SMALL, colocated=False), replace(SMALL, gpus=4, sequence_parallel=2)):
        rows = 20 / elsewhere.sequence_parallel  # a micro-batch's, from TransferQueue
        assert parts("student", elsewhere)["hidden states"] == 2 * TEXT.hidden_size * rows
    without = parts("student", replace(SMALL, checkpointing=False))
    assert without["activations of all layers"] == 2 * (214 * 40 + 4 * 3 * 40)


def test_the_teacher_at_its_fullest():
    batch = MicroBatch(tokens=30, patches=4 * 30, rows=30, keys=30 + 4 * 10)
    moments = teacher_moments(TEACHER, batch, logits_rows=8, whole=False)
    assert fullest(moments).items() <= parts("teacher").items()
    assert parts("teacher")["hidden states"] == 2 * TEXT.hidden_size * 4 * 5
    # a validation of 60 rollouts, 30 a rank, fills a larger budget with images
    filled = parts("teacher", replace(SMALL, teacher_tokens=100, held_out=60))
    assert (
        filled["pixels"] == 144 * 4 * 100
        and parts("teacher", replace(SMALL, teacher_tokens=100))["pixels"] == 144 * 160
    )


def names(plan: Settings) -> list[str]:
    return [phase.name for phase in memory.phases(plan, 100e9)]


def test_a_policy_has_no_teacher():
    grpo = replace(SMALL, needs=Needs(teacher_views=0, distils=False))
    assert names(grpo) == ["generation", "student", "optimiser", "weights to vLLM"]
    for phase in memory.phases(replace(grpo, teacher_offload=True), 100e9):
        assert not {"teacher head", "teacher weights", "hidden states"} & set(phase.parts)
    assert memory.host_bytes(replace(grpo, teacher_offload=True), gpus_per_node=2) == 0
    papo = replace(grpo, needs=replace(grpo.needs, student_views=2))
    # prompts and rows twice, within the budget of 1000 tokens
    assert parts("student", papo)["pixels"] == 2 * parts("student", grpo)["pixels"]
    assert parts("student", papo)["layer inputs kept"] == 2 * parts("student", grpo)["layer inputs kept"]


def test_what_is_only_evaluated_has_no_states():
    base = replace(SMALL, needs=Needs(samples=False, learns_by="nothing", distils=False))
    assert names(base) == ["generation", "teacher", "weights to vLLM"]
    assert not {"AdamW states", "teacher head"} & set(parts("generation", base))
    assert parts("teacher", base)["hidden states"] == 0
    assert memory.host_bytes(replace(base, optimizer_offload=True), gpus_per_node=2) == 0


def test_fine_tuning_is_alone_on_the_gpu_and_gives_every_answer_its_prompt():
    tuned = replace(SMALL, needs=Needs(samples=False, learns_by="fine_tuning", distils=False))
    assert names(tuned) == ["generation", "teacher", "fine-tuning", "optimiser", "weights to vLLM"]
    assert "teacher weights" not in parts("fine-tuning", tuned) and "AdamW states" in parts("optimiser", tuned)
    assert "AdamW states" not in parts("generation", tuned)  # evaluated once it is trained
    # 4 answers a rank with a prompt of 10 tokens each
    assert tuned.batch(STUDENT, 1000, 4, views=1) == MicroBatch(tokens=60, patches=4 * 40, rows=20, keys=20)


def test_tensor_parallel_divides_weights_and_cache_of_vllm():
    two = replace(SMALL, tensor_parallel=2)
    assert parts("generation", two)["vLLM weights"] == STUDENT.total
    assert memory.sequence_bytes(two) == TEXT.kv_bytes * 15 / 2


def test_a_share_without_room_for_one_sequence_is_refused():
    with pytest.raises(ValueError, match="gpu_memory_utilization=0.5: must be 0.81 or more"):
        memory.phases(replace(SMALL, vllm_share=0.5), 5e9)


def test_what_is_not_trained_has_no_gradients_and_no_states():
    frozen = replace(SMALL, learns=Learns.of(STUDENT, ("vision", "merger")))
    count = STUDENT.total - STUDENT.parameters["vision"]
    found = parts("student", frozen)
    assert found["gradients"] == 4 * count / 2 and found["AdamW states"] == 8 * count / 2
    assert found["student weights"] == 4 * STUDENT.total / 2
    assert found["vision tower kept"] < parts("student")["vision tower kept"]
    assert parts("optimiser", frozen)["temporaries of AdamW"] == 4 * count / 2
    assert checkpoint_bytes(STUDENT, frozen.learns) == 4 * (3 * count + STUDENT.total)
    rank = 3
    lora = {"lora_rank": rank, "lora_alpha": 1, "target_modules": ["q_proj"], "exclude_modules": None}
    adapted = replace(SMALL, learns=Learns.of(STUDENT, (), lora))
    count = 2 * rank * (4 + 6)  # two layers, h 4, queries 2 x 3
    found = parts("student", adapted)
    assert found["gradients"] == 4 * count / 2 and found["student weights"] == 4 * (STUDENT.total + count) / 2
    assert checkpoint_bytes(STUDENT, adapted.learns) == 4 * (4 * count + STUDENT.total)
