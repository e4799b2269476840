"""How time and memory of scoring and updating grow with the tokens of a step and with the ranks.

    python -m benchmarks.growth [--save FILE]

The real engines (FSDP2 over gloo, one thread a rank) on a Qwen3-VL of random weights; micro-batches by tokens, so that
a larger step has more of them. Tokens a step are those of the K rollouts of each prompt, prompts counted per rollout.
Memory is all that the process holds, models and libraries included.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RANK = "--rank"


def rank_program(rank: int, world: int, folder: str) -> None:
    """One rank: for every size, seconds and peak memory of the teacher's and the student's part."""
    os.environ["VERL_PLATFORM"] = "cpu"
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
    import torch
    import verl.utils.tensordict_utils as tu
    from verl.trainer.config import CheckpointConfig
    from verl.workers.config import FSDPEngineConfig, FSDPOptimizerConfig, HFModelConfig, TrainingWorkerConfig
    from verl.workers.engine_workers import TrainingWorker

    from benchmarks.measure import peak_resident_memory
    from benchmarks.teacher_scoring import VOCAB_SIZE, make_rollouts
    from verl_vaopd.methods import method_of
    from verl_vaopd.model.head import load_lm_head
    from verl_vaopd.settings.config import VAOPDConfig
    from verl_vaopd.settings.teacher import TeacherConfig
    from verl_vaopd.teacher.engine import TeacherEngine
    from verl_vaopd.trainer.workers import StudentTrainingWorker

    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/join_{world}", rank=rank, world_size=world
    )
    with open(f"{folder}/settings.json") as f:
        settings = json.load(f)

    def model(name):
        override = {"attn_implementation": "sdpa"}
        return HFModelConfig(
            path=f"{folder}/{name}", load_tokenizer=False, override_config=override, enable_gradient_checkpointing=True
        )

    fp32 = {"param_dtype": "fp32", "reduce_dtype": "fp32", "buffer_dtype": "fp32"}
    worker = StudentTrainingWorker(
        TrainingWorkerConfig(
            model_type="vaopd_student",
            model_config=model("student"),
            engine_config=FSDPEngineConfig(
                strategy="fsdp2", model_dtype="fp32", mixed_precision=fp32, use_torch_compile=False
            ),
            optimizer_config=FSDPOptimizerConfig(lr=1e-6, total_training_steps=100),
            checkpoint_config=CheckpointConfig(),
        )
    )
    worker.reset()
    worker.set_loss_fn(lambda *args, **kwargs: None)
    worker.engine.teacher_head = load_lm_head(f"{folder}/teacher")
    teacher_config = TeacherConfig(path=f"{folder}/teacher", dtype="fp32")
    teacher = TeacherEngine(model("teacher"), teacher_config.engine_config(), None, CheckpointConfig())
    teacher.initialize()
    teacher.method = method_of(VAOPDConfig(teacher=teacher_config, output_dir=folder))
    for engine in (worker.engine, teacher):
        engine.vocab_size, engine.chunk_size = VOCAB_SIZE, 64

    def nested(rows):
        return torch.nested.as_nested_tensor(list(rows), layout=torch.jagged)

    def one_step(prompts: int) -> dict:
        mine = range(rank, prompts, world)
        torch.manual_seed(rank)
        vision, degraded, rows = {}, {}, []
        for prompt in mine:
            rollouts, (vision[f"{prompt}"], degraded[f"{prompt}"]) = make_rollouts(
                settings["prompt"], settings["response"], settings["rollouts"]
            )
            rows += [(f"{prompt}", ids) for ids in rollouts]
        length = settings["response"]
        data = tu.get_tensordict(
            {
                "uid": [uid for uid, _ in rows],
                "input_ids": nested(ids for _, ids in rows),
                "response_mask": nested(torch.ones(length, dtype=torch.long) for _ in rows),
            }
        )
        tokens = settings["tokens_per_micro_batch"]
        tu.assign_non_tensor(data, use_dynamic_bsz=True, max_token_len_per_gpu=2 * tokens)
        teacher.vision, teacher.degraded, worker.engine.vision = vision, degraded, vision
        torch.distributed.barrier()
        with peak_resident_memory() as teacher_memory:
            start = time.perf_counter()
            with teacher.eval_mode():
                scores = teacher.infer_batch(data)["model_output"]
            torch.distributed.barrier()
            teacher_seconds = time.perf_counter() - start
        weights = nested(torch.full((length,), 1 / (prompts * settings["rollouts"] * length)) for _ in rows)
        columns = {"token_weights": weights, "high_va": weights, "rollout_log_probs": scores["logp_original"]}
        for name, column in {**columns, "teacher_hidden": scores["teacher_hidden"]}.items():
            data[name] = column
        tu.assign_non_tensor(
            data, use_dynamic_bsz=True, max_token_len_per_gpu=tokens, mini_batch_size=len(rows) * world
        )
        with peak_resident_memory() as student_memory:
            start = time.perf_counter()
            TrainingWorker.train_mini_batch(worker, data)
            torch.distributed.barrier()
            student_seconds = time.perf_counter() - start
        return {
            "teacher": teacher_seconds,
            "student": student_seconds,
            "teacher_mib": teacher_memory(),
            "student_mib": student_memory(),
        }

    one_step(world)  # warm-up
    results = {prompts: one_step(prompts) for prompts in settings["prompts"]}
    if rank == 0:
        Path(f"{folder}/results_{world}.json").write_text(json.dumps(results))
    torch.distributed.destroy_process_group()


def main() -> None:
    from benchmarks.measure import markdown_table, publish
    from benchmarks.teacher_scoring import make_model

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, nargs="+", default=[2, 4, 8, 16], help="per step")
    parser.add_argument("--rollouts", type=int, default=4, help="K")
    parser.add_argument("--prompt", type=int, default=256, help="prompt tokens")
    parser.add_argument("--response", type=int, default=128, help="response tokens")
    parser.add_argument("--tokens-per-micro-batch", type=int, default=1024)
    parser.add_argument("--save", help="write the page to this file")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, hidden, layers in (("student", 256, 4), ("teacher", 512, 8)):
            make_model(hidden, layers).save_pretrained(f"{folder}/{name}")
        Path(f"{folder}/settings.json").write_text(json.dumps(vars(args)))
        for world in (1, 2):
            command = [sys.executable, "-m", "benchmarks.growth", RANK]
            ranks = [
                subprocess.Popen(
                    [*command, str(rank), str(world), folder], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
                )
                for rank in range(world)
            ]
            logs = [rank.communicate()[0].decode() for rank in ranks]
            if any(rank.returncode for rank in ranks):
                sys.exit("\n".join(log[-3000:] for log in logs))
            results = json.loads(Path(f"{folder}/results_{world}.json").read_text())
            first = results[str(args.prompts[0])]
            for prompts in args.prompts:
                got, tokens = results[str(prompts)], prompts * args.rollouts * (args.prompt + args.response)
                growth = [f"{got[part] / first[part]:.2f}" for part in ("teacher", "student")]
                rows.append(
                    [world, prompts, tokens, f"{prompts / args.prompts[0]:g}"]
                    + [f"{got['teacher']:.2f}", growth[0], f"{got['student']:.2f}", growth[1]]
                    + [f"{got['teacher_mib']:.0f}", f"{got['student_mib']:.0f}"]
                )
            print(f"{world} rank(s) done", file=sys.stderr, flush=True)
    titles = ["ranks", "prompts", "tokens", "times the first", "teacher, s", "times", "student, s", "times"]
    titles += ["teacher, peak MiB of a rank", "student, peak MiB of a rank"]
    args.threads = 1
    publish("Growth with tokens and ranks", args, [markdown_table(titles, rows, text_columns=0)])


if __name__ == "__main__":
    if sys.argv[1:2] == [RANK]:
        rank_program(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    else:
        main()
