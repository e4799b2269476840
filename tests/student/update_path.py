"""One rank of the update path: teacher engine -> coefficients -> student, results written to a file.

Run by test_update_path.py: python -m tests.student.update_path RANK WORLD FOLDER
"""

import json
import os
import sys
from dataclasses import replace

import torch

os.environ["VERL_PLATFORM"] = "cpu"

import verl.utils.tensordict_utils as tu
from omegaconf import OmegaConf
from torch.distributed.tensor import distribute_tensor
from verl.trainer.config import CheckpointConfig
from verl.workers.config import ActorConfig, FSDPEngineConfig, FSDPOptimizerConfig, HFModelConfig, TrainingWorkerConfig
from verl.workers.engine_workers import TrainingWorker

from tests.random_models import VOCAB_SIZE, Prompts
from tests.random_processors import processor_of
from tests.student.update_path_settings import REWARDS, TEMPERATURE, adapter_values
from tests.tracing import LargestTensor
from verl_vaopd.methods import Step, method_of
from verl_vaopd.methods.interface.checked import checked
from verl_vaopd.settings.config import VAOPDConfig
from verl_vaopd.settings.of_methods import GKDConfig, MassConfig
from verl_vaopd.settings.teacher import TeacherConfig
from verl_vaopd.teacher.engine import TeacherEngine
from verl_vaopd.trainer.columns import pad_rows
from verl_vaopd.trainer.order import order_rows
from verl_vaopd.trainer.workers import StudentTrainingWorker

HOST = OmegaConf.create(  # verl's settings that a policy gradient goes by
    {
        "actor_rollout_ref": {"actor": {"loss_agg_mode": "token-mean"}},
        "algorithm": {"norm_adv_by_std_in_grpo": True},
    }
)
STUDENTS = ("models", "sequence_ranks", "checkpointing", "lr", "dtype", "override", "freeze", "student", "lora")
"""What of a case makes another student."""
OVERRIDE = {"attn_implementation": "sdpa"}


def nested(rows):
    return torch.nested.as_nested_tensor(list(rows), layout=torch.jagged)


def checkpoint(folder: str, model: str, case: dict) -> str:
    return f"{folder}/{case.get('models', '')}{case.get(model, model)}"


def build_student(folder: str, case: dict) -> StudentTrainingWorker:
    """The real worker; its optimiser, unless the case names one, is SGD, whose steps show the gradients as they are."""
    dtype = case.get("dtype", "fp32")
    worker = StudentTrainingWorker(
        TrainingWorkerConfig(
            model_type="vaopd_student",
            model_config=HFModelConfig(
                path=checkpoint(folder, "student", case),
                load_tokenizer=False,
                processor=processor_of(case.get("family")),
                override_config=case.get("override", OVERRIDE),
                use_remove_padding=True,
                enable_gradient_checkpointing=case.get("checkpointing", False),
                **case.get("lora", {}),
            ),
            engine_config=FSDPEngineConfig(
                strategy="fsdp2",
                model_dtype="fp32",
                mixed_precision={"param_dtype": dtype, "reduce_dtype": "fp32", "buffer_dtype": "fp32"},
                use_torch_compile=False,
                ulysses_sequence_parallel_size=case.get("sequence_ranks", 1),
            ),
            optimizer_config=FSDPOptimizerConfig(
                optimizer=case.get("optimizer", "SGD"),
                lr=case.get("lr", 0.0),
                weight_decay=0.0,
                clip_grad=1e9,
                total_training_steps=10,
            ),
            checkpoint_config=CheckpointConfig(),
        ),
        frozen=tuple(case.get("freeze", ())),
    )
    worker.reset()
    with torch.no_grad():
        for parameter, values in adapter_values(worker.engine.module.named_parameters()):
            parameter.copy_(distribute_tensor(values, parameter.device_mesh, parameter.placements))
    worker.set_loss_fn(lambda *args, **kwargs: None)  # the host asks for one; the engine has its own
    return worker


def build_teacher(folder: str, case: dict) -> TeacherEngine:
    path = checkpoint(folder, "teacher", case)
    config = TeacherConfig(path=path, dtype=case.get("dtype", "fp32")).engine_config()
    model = HFModelConfig(
        path=path,
        load_tokenizer=False,
        processor=processor_of(case.get("family")),
        override_config=case.get("override", OVERRIDE),
    )
    teacher = TeacherEngine(model, config, None, CheckpointConfig())
    teacher.initialize()
    return teacher


def batch_of(rows, columns: dict, **settings):
    ones = [torch.ones(length, dtype=torch.long) for _, _, length in rows]
    data = tu.get_tensordict(
        {
            "uid": [uid for uid, _, _ in rows],
            "input_ids": nested(ids for _, ids, _ in rows),
            "response_mask": nested(ones),
            **{key: nested(values) for key, values in columns.items()},
        }
    )
    tu.assign_non_tensor(data, max_token_len_per_gpu=60, **settings)
    return data


def gather(indices: list[int], columns: list[list]) -> list[tuple]:
    """Rows of all ranks, in the order of their index; rows that several ranks hold come once."""
    everyone = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(everyone, list(zip(indices, *columns, strict=True)))
    return [row for _, row in sorted({row[0]: row for rows in everyone for row in rows}.items())]


def run(case: dict, students: dict, teachers: dict, folder: str, rank: int, world: int) -> dict:
    prompts = Prompts(response_lengths=case["response_lengths"], family=case.get("family", "qwen3_vl"))
    layout = {"use_dynamic_bsz": case["micro_batch"] is None, "micro_batch_size_per_gpu": case["micro_batch"] or 1}
    vocab_size = case.get("vocab_size", VOCAB_SIZE)
    kind = json.dumps([case.get(name) for name in ("models", "dtype", "override", "teacher")])
    if kind not in teachers:
        teachers[kind] = build_teacher(folder, case)
    teacher = teachers[kind]
    teacher.vocab_size, teacher.chunk_size = vocab_size, 5
    config = VAOPDConfig(
        teacher=TeacherConfig(path=checkpoint(folder, "teacher", case)),
        output_dir="x",
        chunk_size=5,
        **{
            **case["settings"],
            "gkd": GKDConfig(**case["settings"].get("gkd", {})),
            "mass": MassConfig(**case["settings"].get("mass", {})),
        },
    )
    method = method_of(config)
    # A policy gradient has no teacher; what one would say is looked at all the same.
    teacher.method = method if method.teacher_views else method_of(replace(config, method="vaopd"))
    teacher.vision, teacher.degraded = prompts.original, prompts.degraded if config.degraded_view else {}

    # Teacher: rows are dealt out in turn, so siblings sit on different ranks.
    mine = list(range(rank, len(prompts.rows), world))
    with teacher.eval_mode(), LargestTensor() as largest_of_teacher:
        scores = teacher.infer_batch(batch_of([prompts.rows[i] for i in mine], {}, **layout))["model_output"]
    names = (*teacher.method.score_names, *(["teacher_hidden"] if teacher.method.teacher_hidden else []))
    assert set(scores) == set(names) and all(scores[name].dtype == torch.float32 for name in names[:2])
    scored = gather(mine, [list(scores[name].unbind()) for name in names])
    if case.get("scores_only"):  # as at a validation: nobody needs the hidden states
        teacher.scores_only = True
        with teacher.eval_mode():
            alone = teacher.infer_batch(batch_of([prompts.rows[i] for i in mine], {}, **layout))["model_output"]
        teacher.scores_only = False
        assert set(alone) == set(names[:2])
        assert all(torch.equal(alone[name].values(), scores[name].values()) for name in names[:2])

    # Driver.
    lengths = [length for _, _, length in prompts.rows]
    mask = pad_rows(nested(torch.ones(length, dtype=torch.long) for length in lengths)).bool()
    uids = [uid for uid, _, _ in prompts.rows]
    rewards = torch.zeros(mask.shape)
    rewards[:, 0] = torch.tensor(REWARDS)
    read = {"rm_scores": rewards}
    read |= {name: pad_rows(nested(row[place] for row in scored)) for place, name in enumerate(names[:2], start=1)}
    step = Step({name: read[name] for name in method.reads}, mask, uids, HOST)
    actor = ActorConfig(strategy="fsdp2", rollout_n=4, ppo_mini_batch_size=3, ppo_micro_batch_size_per_gpu=1)
    weighed = checked(method, method.weigh(step), step, method.objective(actor, TEMPERATURE))
    per_token = {name: values.float() for name, values in weighed.student.items()}

    # Student.
    mini_batches = case.get("mini_batches", 1)
    key = json.dumps([case.get(name) for name in STUDENTS])
    if key not in students:
        students[key] = build_student(folder, case)
    worker = students[key]
    engine = worker.engine
    worker.attach_objective(config, vocab_size, actor, TEMPERATURE)
    engine.vision, engine.second_view = prompts.original, prompts.degraded if engine.views == 2 else {}
    ranks, place = engine.get_data_parallel_size(), engine.get_data_parallel_rank()
    if mini_batches > 1:
        order = order_rows([uid for uid, _, _ in prompts.rows], [len(ids) for _, ids, _ in prompts.rows], ranks, 3)
        mine = order[place * len(order) // ranks : (place + 1) * len(order) // ranks]
    else:
        mine = list(range(place, len(prompts.rows), ranks))
    per_token["token_weights"] = mini_batches * per_token["token_weights"]
    columns = {name: [values[i, : lengths[i]] for i in mine] for name, values in per_token.items()}
    columns["rollout_log_probs"] = [torch.zeros(lengths[i]) for i in mine]
    if method.teacher_hidden:
        columns["teacher_hidden"] = [scored[i][3] for i in mine]
    data = batch_of([prompts.rows[i] for i in mine], columns, **layout)
    result = {"scores": [row[:3] for row in scored]}
    if mini_batches > 1:
        # As StudentTrainingWorker.train_mini_batch, less its fetching of images from TransferQueue.
        tu.assign_non_tensor(
            data, mini_batch_size=len(prompts.rows) // mini_batches, dataloader_kwargs={"shuffle": False}
        )
        output = TrainingWorker.train_mini_batch(worker, data)
        metrics = tu.get(output, "metrics") if output is not None else None
        result["parameters"] = {key: p.full_tensor() for key, p in engine.module.named_parameters()}
        return {**result, "metrics": metrics}
    towers = []
    children = dict(engine.module.model.named_children())
    tower = children.get("visual") or children["vision_tower"]

    def watch(_, __, seen):
        features = seen.last_hidden_state if seen.pooler_output is None else seen.pooler_output
        towers.append(features.requires_grad)

    watched = tower.register_forward_hook(watch)
    with engine.train_mode(zero_grad_on_exit=False):
        engine.optimizer_zero_grad()
        with LargestTensor() as largest_of_student:
            output = engine.forward_backward_batch(data, None)
        gradients = {key: p.grad.full_tensor() for key, p in engine.module.named_parameters() if p.grad is not None}
    watched.remove()
    loss = torch.tensor(sum(output["loss"]))  # of this rank's rows, times the data-parallel size
    torch.distributed.all_reduce(loss, group=engine.get_data_parallel_group())
    sums = {}
    for name in ("tokens", "perception_kl_sum", "masked_entropy_sum", "masked_tokens"):
        if name in output["metrics"]:
            total = torch.tensor(sum(output["metrics"][name].values))
            torch.distributed.all_reduce(total, group=engine.get_data_parallel_group())
            sums[name] = float(total) / ranks
    return {
        **result,
        **sums,
        "loss": float(loss) / ranks,
        "gradients": gradients,
        "tower_has_graph": any(towers),
        "micro_batches": len(output["loss"]),
        "largest": {"teacher": largest_of_teacher.numel, "student": largest_of_student.numel},
    }


def main(rank: int, world: int, folder: str) -> None:
    with open(f"{folder}/cases.json") as f:
        cases = json.load(f)
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1", MASTER_PORT="0")  # read, unused
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous_{world}", rank=rank, world_size=world
    )
    students, teachers = {}, {}
    results = {name: run(case, students, teachers, folder, rank, world) for name, case in cases[str(world)].items()}
    if rank == 0:
        torch.save(results, f"{folder}/results_{world}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
