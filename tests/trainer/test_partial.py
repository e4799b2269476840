"""Prompts on their way between steps: which are begun, how they are called, what a checkpoint restores."""

from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf
from tensordict import NonTensorStack, TensorDict
from verl.trainer.ppo.v1.replay_buffer import ReplayBufferAsync
from verl.trainer.ppo.v1.trainer_base import PPOTrainer

from verl_vaopd.trainer import partial
from verl_vaopd.trainer.driver import PartialRolloutTrainer, VAOPDTrainer


def trainer_at(step: int, of: int, held: dict[str, dict], monkeypatch) -> PartialRolloutTrainer:
    """Before ``step`` of ``of``, with ``held`` in TransferQueue, partition train."""
    trainer = object.__new__(PartialRolloutTrainer)
    trainer.config = OmegaConf.create({"data": {"train_batch_size": 4}})
    trainer.global_steps, trainer.planned_steps, trainer.asked = step, of, (0, 0)
    trainer.begun = []
    monkeypatch.setattr(partial.tq, "kv_list", lambda name=None: {"train": held})
    monkeypatch.setattr(
        PPOTrainer, "_add_prompts_to_generate", lambda self, number: self.begun.append(number) or number
    )
    return trainer


def prompts(number: int) -> dict[str, dict]:
    return {f"00000001.{row:06d}": {"is_prompt": True, "status": "running"} for row in range(number)}


@pytest.mark.parametrize(
    ("step", "on_their_way", "begun"),
    [
        (1, 4, [4]),  # after a warm-up of one batch
        (9, 4, [4]),  # two steps want eight
        (10, 4, []),  # the last step takes those that are left
        (10, 3, [1]),
    ],
)
def test_no_prompt_is_begun_that_no_step_is_left_for(step, on_their_way, begun, monkeypatch):
    rows = {"00000001.000000_0_0": {"status": "success"}}  # a rollout is no prompt
    trainer = trainer_at(step, 10, prompts(on_their_way) | rows, monkeypatch)
    trainer.prepare_step()
    assert trainer.begun == begun


@pytest.mark.parametrize(
    ("ahead", "bound", "oldest"),
    [(0, 4, 0), (1, 1, 1), (4, 1, 4), (1, 2, 1), (3, 2, 3), (1, 4, 3), (2, 4, 4), (4, 4, 6)],
)
def test_how_old_a_token_can_be(ahead, bound, oldest, monkeypatch):
    """The first prompts end as late as verl's queue lets them, all others at once. A prompt that is taken N steps after
    the step that began it has tokens that are N updates old. T - 2 + W, for T = 1 W: docs/partial_rollouts.md."""
    steps, held, ages = 12, {}, []
    trainer = trainer_at(1, steps, held, monkeypatch)
    settings = OmegaConf.create({})
    queue = ReplayBufferAsync("colocate_async", settings, bound, "wait", settings, 0.0, lambda number: None)

    def begin(self, number):
        status = "running" if self.global_steps == 1 else "finished"
        for _ in range(number):
            held[f"{len(ages) + len(held):06d}"] = {
                "is_prompt": True,
                "status": status,
                "global_steps": self.global_steps,
            }

    def one_more_ends(partition, last):
        next(tag for tag in held.values() if tag["status"] == "running")["status"] = "finished"
        return last

    def take(keys, partition_id):
        ages.extend(trainer.global_steps - held.pop(key)["global_steps"] for key in keys)

    monkeypatch.setattr(PPOTrainer, "_add_prompts_to_generate", begin)
    monkeypatch.setattr(partial.tq, "kv_clear", take)
    monkeypatch.setattr(queue, "_wait_for_next_poll", one_more_ends)
    trainer._add_prompts_to_generate(4 * ahead)
    for trainer.global_steps in range(1, steps + 1):
        trainer.prepare_step()
        queue.sample(trainer.global_steps, "train", 4)
    assert max(ages) == oldest and len(ages) == 4 * steps and not held


def test_prompts_of_a_step_have_ids_of_their_own(monkeypatch):
    def batch(self, num_prompts=None):
        return TensorDict({"uid": NonTensorStack.from_list(["host's"] * num_prompts)}, [num_prompts])

    monkeypatch.setattr(PPOTrainer, "_next_train_batch", batch)
    trainer = trainer_at(1, 10, {}, monkeypatch)
    warm_up, first = trainer._next_train_batch(2), trainer._next_train_batch(3)
    trainer.global_steps = 2
    second = trainer._next_train_batch(1)
    ids = [list(each["uid"]) for each in (warm_up, first, second)]
    assert ids[0] == ["00000001.000000", "00000001.000001"]
    assert ids[1] == ["00000001.000002", "00000001.000003", "00000001.000004"]
    assert ids[2] == ["00000002.000000"]


def test_the_rollouts_of_the_saved_step_are_not_restored(monkeypatch):
    kept = prompts(1) | {"00000001.000000_0_0": {}}
    trained = {"00000001.000009_0_0": {}, "00000001.000009_1_0": {}}
    trainer = trainer_at(5, 10, kept | trained, monkeypatch)
    held = {"train": kept | trained, "vision": {"00000001.000000": {}, "00000001.000009": {}}}
    cleared = []
    monkeypatch.setattr(partial.tq, "kv_list", lambda name=None: held)
    monkeypatch.setattr(partial.tq, "kv_clear", lambda keys, partition_id: cleared.append((partition_id, set(keys))))
    monkeypatch.setattr(PPOTrainer, "_load_checkpoint", lambda self: None)
    trainer._load_checkpoint()
    assert cleared == [("train", set(trained)), ("vision", {"00000001.000009"})]


def test_a_prompt_that_failed_stops_the_run_instead_of_being_replaced(monkeypatch):
    monkeypatch.setattr(PPOTrainer, "_build_replay_buffer", lambda self: SimpleNamespace(sample=None, refill_fn=None))
    replay_buffer = object.__new__(PartialRolloutTrainer)._build_replay_buffer()
    with pytest.raises(RuntimeError, match=r"rollouts of 2 prompts failed: progress\.log names the rows"):
        replay_buffer.refill_fn(2)


def test_the_teacher_scores_held_out_rollouts_while_others_are_interrupted():
    calls = []
    manager = SimpleNamespace(
        **{
            name: lambda *_, name=name: calls.append(name)
            for name in ("abort_replicas", "sleep_replicas", "update_weights", "resume_generation_replicas")
        }
    )
    for kind in (PartialRolloutTrainer, VAOPDTrainer):
        trainer = object.__new__(kind)
        trainer.checkpoint_manager, trainer.global_steps = manager, 3
        trainer._free_devices()
        trainer._give_devices_back()
    assert calls == [
        *("abort_replicas", "sleep_replicas", "update_weights", "resume_generation_replicas"),
        *("sleep_replicas", "update_weights"),
    ]
