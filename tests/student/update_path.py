"""One rank of the update path: teacher engine -> coefficients -> student engine, gradients written to a file.

Run by test_update_path.py: python -m tests.student.update_path RANK WORLD FOLDER
"""

import json
import os
import sys

import torch

os.environ["VERL_PLATFORM"] = "cpu"

import verl.utils.tensordict_utils as tu
from verl.trainer.config import CheckpointConfig
from verl.workers.config import FSDPEngineConfig, FSDPOptimizerConfig, HFModelConfig

from tests.random_models import VOCAB_SIZE, Prompts
from verl_vaopd.student.engine import StudentEngine
from verl_vaopd.teacher.engine import TeacherEngine
from verl_vaopd.teacher.head import load_lm_head
from verl_vaopd.trainer.coefficients import compute_coefficients
from verl_vaopd.trainer.config import TeacherConfig, VAOPDConfig
from verl_vaopd.trainer.trainer import pad_rows

FP32 = {"param_dtype": "fp32", "reduce_dtype": "fp32", "buffer_dtype": "fp32"}


def nested(rows):
    return torch.nested.as_nested_tensor(list(rows), layout=torch.jagged)


def build(folder, world):
    def model_config(name):
        override = {"attn_implementation": "sdpa"}
        return HFModelConfig(path=f"{folder}/{name}", load_tokenizer=False, override_config=override)

    checkpoint = CheckpointConfig()
    student = StudentEngine(
        model_config("student"),
        FSDPEngineConfig(strategy="fsdp2", model_dtype="fp32", mixed_precision=FP32, use_torch_compile=False),
        FSDPOptimizerConfig(lr=0.0, total_training_steps=10),
        checkpoint,
    )
    teacher_config = TeacherConfig(path=f"{folder}/teacher", dtype="fp32")
    teacher = TeacherEngine(model_config("teacher"), teacher_config.engine_config(), None, checkpoint)
    for engine in (student, teacher):
        engine.initialize()
        engine.vocab_size, engine.chunk_size = VOCAB_SIZE, 5
    student.teacher_head = load_lm_head(f"{folder}/teacher")
    return student, teacher


def main(rank: int, world: int, folder: str) -> None:
    with open(f"{folder}/case.json") as f:
        case = json.load(f)
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous_{world}", rank=rank, world_size=world
    )
    prompts = Prompts(response_lengths=case["response_lengths"])
    student, teacher = build(folder, world)
    teacher.vision, teacher.degraded = prompts.original, prompts.degraded
    student.vision = prompts.original
    config = VAOPDConfig(teacher=TeacherConfig(path="x"), output_dir="x", **case["settings"])
    results = {}
    for name, layout in case["layouts"].items():
        # Rows are dealt out in turn, so siblings sit on different ranks.
        mine = list(range(rank, len(prompts.rows), world))
        data = tu.get_tensordict(
            {
                "uid": [prompts.rows[i][0] for i in mine],
                "input_ids": nested(prompts.rows[i][1] for i in mine),
                "response_mask": nested(torch.ones(prompts.rows[i][2], dtype=torch.long) for i in mine),
                "loss_mask": nested(torch.ones(prompts.rows[i][2], dtype=torch.long) for i in mine),
            }
        )
        tu.assign_non_tensor(
            data,
            use_dynamic_bsz=layout["micro_batch"] is None,
            max_token_len_per_gpu=60,
            micro_batch_size_per_gpu=layout["micro_batch"] or 1,
        )
        with teacher.eval_mode():
            scores = teacher.infer_batch(data.clone())["model_output"]

        everyone = [None] * world
        torch.distributed.all_gather_object(
            everyone, (mine, *(list(scores[k].unbind()) for k in ("logp_original", "logp_pixelated")))
        )
        order = sorted((i, o, p) for indices, *columns in everyone for i, o, p in zip(indices, *columns, strict=True))
        mask = pad_rows(nested(torch.ones(len(o), dtype=torch.long) for _, o, _ in order)).bool()
        coefficients = compute_coefficients(
            pad_rows(nested(o for _, o, _ in order)),
            pad_rows(nested(p for _, _, p in order)),
            mask,
            [uid for uid, _, _ in prompts.rows],
            config,
        )
        lengths = [prompts.rows[i][2] for i in mine]
        columns = {
            "token_weights": nested(coefficients.coefficients[i, :n] for i, n in zip(mine, lengths, strict=True)),
            "high_va": nested(coefficients.high_va[i, :n].float() for i, n in zip(mine, lengths, strict=True)),
            "rollout_log_probs": nested(torch.zeros(n) for n in lengths),
            "teacher_hidden": scores["teacher_hidden"],
        }
        for key, value in columns.items():
            data[key] = value
        with student.train_mode(zero_grad_on_exit=False):
            student.optimizer_zero_grad()
            output = student.forward_backward_batch(data, None)
            gradients = {
                key: p.grad.full_tensor() for key, p in student.module.named_parameters() if p.grad is not None
            }
        loss = torch.tensor(sum(output["loss"]))
        torch.distributed.all_reduce(loss)  # each rank's share carries the factor world
        results[name] = {
            "loss": float(loss) / world,
            "gradients": gradients,
            "scores": order,
            "micro_batches": len(output["loss"]),
        }
    if rank == 0:
        torch.save(results, f"{folder}/results_{world}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
