"""Model and optimiser of a checkpoint, in a form that any number of ranks can read."""

import json
import os

import numpy as np
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from verl.utils.checkpoint.fsdp_checkpoint_manager import FSDPCheckpointManager
from verl.utils.device import get_device_id

from verl_vaopd.student.adapters import adapted_layers, adapter_weights, merged_weights, peft_config
from verl_vaopd.student.frozen import freeze_names, frozen_names
from verl_vaopd.student.hugging_face import write_adapter, write_student
from verl_vaopd.student.trained import Trained

SHARDS = "distributed"
RANDOM_STATE = [np.ndarray, np.dtype, type(np.dtype(np.uint32)), np.random.get_state()[1].__reduce__()[0]]
"""What numpy's random state is made of, all that the host's files hold beside tensors and plain values."""


class ShardedCheckpoint(FSDPCheckpointManager):
    """The host's, whose files of model and optimiser only the same number of ranks can load.

    They are written with torch.distributed.checkpoint instead, which cuts tensors anew for the ranks that load. The
    scheduler, each rank's random state, config, tokenizer and processor are the host's; the exported weights are not,
    since the host's have names that vLLM does not know. Which checkpoints are kept is the driver's business
    (:mod:`verl_vaopd.trainer.checkpoints`). They hold what is trained, and :class:`Trained` says what that is.
    """

    trained: Trained

    def save_checkpoint(self, local_path: str, hdfs_path=None, global_step: int = 0, max_ckpt_to_keep=None):
        wanted, folder = self.checkpoint_save_contents, os.path.join(local_path, "huggingface")
        own = ("model", "optimizer", "hf_model")
        self.checkpoint_save_contents = [name for name in wanted if name not in own]
        try:
            super().save_checkpoint(local_path, hdfs_path, global_step, max_ckpt_to_keep)
        finally:
            self.checkpoint_save_contents = wanted
        if self.rank == 0:
            self.trained.write(local_path)
        if adapted_layers(self.model):
            self._write_adapters(folder)
        if "hf_model" in wanted:
            self._write_student(folder)
        dcp.save(self._state(), checkpoint_id=os.path.join(local_path, SHARDS))

    def load_checkpoint(self, local_path: str, hdfs_path=None, del_local_after_load=False):
        """Load what ``save_checkpoint`` wrote, on as many ranks as there are now.

        Random states are restored if there are as many ranks as when it was saved. What is not trained stays as it is.

        Raises:
            ValueError: it is of a run that trained something else.
        """
        if local_path is None:
            return
        was = Trained.read(local_path)
        self.trained.require_same(was, local_path)
        if was and was.unreached is not None:
            self.trained.unreached = was.unreached
            freeze_names(self.model, self.optimizer, was.unreached)
        state = self._state()
        dcp.load(state, checkpoint_id=os.path.join(local_path, SHARDS))
        set_state_dict(
            self.model,
            self.optimizer,
            model_state_dict=state["model"],
            optim_state_dict=state["optimizer"],
            options=StateDictOptions(strict=False),
        )
        if not self.should_load_extra:
            return
        own = self._extra_path(local_path, self.world_size, self.rank)
        path = own if os.path.exists(own) else self._first_of(local_path)
        with torch.serialization.safe_globals(RANDOM_STATE):
            extra = torch.load(path, weights_only=True)
        if path == own:
            self.load_rng_state(extra["rng"])
        if self.lr_scheduler is not None:
            self.lr_scheduler.load_state_dict(extra["lr_scheduler"])
        torch.distributed.barrier()

    def _write_adapters(self, folder: str) -> None:
        adapters = {name: each.cpu() for name, each in adapter_weights(self.model, get_device_id()).items()}
        if self.rank == 0:
            write_adapter(folder, peft_config(self.model, self.trained.base), adapters)

    def _write_student(self, folder: str) -> None:
        weights = {}
        for name, weight in merged_weights(self.model, get_device_id()):
            if self.rank == 0:
                weights[name] = weight.cpu()
        if self.rank == 0:
            write_student(folder, self.model.config, weights)

    def _state(self) -> dict:
        model, optimizer = get_state_dict(self.model, self.optimizer, options=StateDictOptions(cpu_offload=False))
        frozen = frozen_names(self.model)
        return {"model": {name: each for name, each in model.items() if name not in frozen}, "optimizer": optimizer}

    @staticmethod
    def _extra_path(folder: str, world_size: int, rank: int) -> str:
        return os.path.join(folder, f"extra_state_world_size_{world_size}_rank_{rank}.pt")

    def _first_of(self, folder: str) -> str:
        """The first rank's file, of however many ranks."""
        with open(os.path.join(folder, "fsdp_config.json")) as f:
            return self._extra_path(folder, json.load(f)["world_size"], 0)
