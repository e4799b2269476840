"""Sample the teacher's answers with vLLM, under the settings that the student's rollouts have."""

import time

from verl_vaopd.answers.store import AnswerWriter
from verl_vaopd.data.dataset import images_of
from verl_vaopd.data.reward import compute_score

PROMPTS_PER_PART = 256


def answer_settings(config, prompts: int) -> dict:
    """What decides the answers, for the manifest."""
    rollout, data = config.actor_rollout_ref.rollout, config.data
    return {
        "teacher": config.vaopd.teacher.path,
        "prompts": prompts,
        "samples": rollout.n,
        "temperature": rollout.temperature,
        "top_p": rollout.top_p,
        "max_response_length": data.max_response_length,
        "mm_processor_kwargs": dict(data.mm_processor_kwargs or {}),
        "seed": data.seed,
    }


def load_engine(config, path: str):
    """vLLM with the teacher, as one replica: on all devices of one node, or on the CPU."""
    from omegaconf import OmegaConf
    from vllm import LLM

    rollout, data, trainer = config.actor_rollout_ref.rollout, config.data, config.trainer
    engine = OmegaConf.to_container(rollout.engine_kwargs.vllm, resolve=True)
    del engine["worker_extension_cls"]  # takes new weights from a trainer
    return LLM(
        path,
        dtype=rollout.dtype,
        enforce_eager=rollout.enforce_eager,
        tensor_parallel_size=1 if trainer.device == "cpu" else trainer.n_gpus_per_node,
        gpu_memory_utilization=rollout.gpu_memory_utilization,
        max_model_len=rollout.max_model_len or data.max_prompt_length + data.max_response_length,
        max_num_batched_tokens=rollout.max_num_batched_tokens,
        max_num_seqs=rollout.max_num_seqs,
        seed=data.seed,
        logprobs_mode=rollout.logprobs_mode,
        **engine,
    )


def banned_ids(processor, head_rows: int) -> list[int]:
    """Ids that are never sampled, in rollouts either: padding of the head and the vision placeholders."""
    from verl.workers.rollout.utils import get_vision_placeholder_token_ids

    return [*range(len(processor.tokenizer), head_rows), *get_vision_placeholder_token_ids(processor)]


def sample_answers(config, dataset, processor, writer: AnswerWriter, say=print) -> dict:
    """Write ``rollout.n`` answers to every row of ``dataset`` that has none yet. Returns the manifest's figures.

    Raises:
        ValueError: a row without ``extra_info.id``, or two with the same.
    """
    ids = row_ids(dataset)
    parts = [range(n, min(n + PROMPTS_PER_PART, len(ids))) for n in range(0, len(ids), PROMPTS_PER_PART)]
    waiting = [part for part in range(len(parts)) if not writer.has(part)]
    if waiting:
        say("starting vLLM with the teacher")
        engine = load_engine(config, config.vaopd.teacher.path)
        head_rows = engine.llm_engine.model_config.get_vocab_size()
        params = sampling_params(config, banned_ids(processor, head_rows))
        grading = config.reward.custom_reward_function.get("reward_kwargs", {})
    started, done, right = time.monotonic(), 0, []
    left = sum(len(parts[part]) for part in waiting)
    if left < len(ids):
        say(f"answers: {len(ids) - left} of {len(ids)} prompts are there already")
    for part in waiting:
        rows = [dataset[index] for index in parts[part]]
        written = answer_rows(engine, rows, [ids[index] for index in parts[part]], processor, params, grading)
        writer.write(part, written)
        done += len(rows)
        right += [row["accuracy"] for row in written]
        seconds = time.monotonic() - started
        say(
            f"answers: {len(ids) - left + done} of {len(ids)} prompts, {sum(right) / len(right):.1%} right, "
            f"{seconds:.0f} s, {seconds / done * (left - done):.0f} s to go"
        )
    return writer.finish()


def row_ids(dataset) -> list[str]:
    """``extra_info.id`` of every row."""
    ids = [(info or {}).get("id") for info in dataset.dataframe["extra_info"]]
    if None in ids:
        raise ValueError(f"row {ids.index(None)} of data.train_files has no extra_info.id, by which answers are found")
    if len(set(ids)) < len(ids):
        twice = next(each for n, each in enumerate(ids) if each in set(ids[:n]))
        raise ValueError(f"two rows of data.train_files have the extra_info.id {twice!r}: ids must differ")
    return ids


def sampling_params(config, banned: list[int]):
    from vllm import SamplingParams

    rollout = config.actor_rollout_ref.rollout
    return SamplingParams(
        n=rollout.n,
        temperature=rollout.temperature,
        top_p=rollout.top_p,
        top_k=rollout.top_k,
        max_tokens=config.data.max_response_length,
        logprobs=0,
        logit_bias=dict.fromkeys(banned, -100.0),
        skip_special_tokens=True,
    )


def answer_rows(engine, rows: list[dict], ids: list[str], processor, params, grading: dict) -> list[dict]:
    """``params.n`` rows of the store's schema for each row; ``grading``: options of ``compute_score``.

    Raises:
        RuntimeError: vLLM gave up an answer.
    """
    prompts = []
    for row in rows:
        chat = row["raw_prompt"]
        text = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        images = images_of(chat)
        prompts.append({"prompt": text, **({"multi_modal_data": {"image": images}} if images else {})})
    written = []
    for row, row_id, answered in zip(rows, ids, engine.generate(prompts, params, use_tqdm=False), strict=True):
        for sample, output in enumerate(answered.outputs):
            if output.finish_reason not in ("stop", "length"):
                raise RuntimeError(
                    f"vLLM gave up an answer to row {row_id} after {len(output.token_ids)} tokens "
                    f"({output.finish_reason}): call again, parts that are written stay"
                )
            score = compute_score(row["data_source"], output.text, row["reward_model"]["ground_truth"], **grading)
            written.append(
                {
                    "id": row_id,
                    "sample": sample,
                    "token_ids": list(output.token_ids),
                    "log_probs": [p[t].logprob for p, t in zip(output.logprobs, output.token_ids, strict=True)],
                    "text": output.text,
                    "accuracy": score["acc"],
                }
            )
    return written
