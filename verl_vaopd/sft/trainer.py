"""One rank of supervised fine-tuning.

    torchrun --nproc-per-node N -m verl_vaopd.sft.trainer CONFIG

Data order, optimiser, schedule, checkpoints and resuming are those of verl's SFT trainer; the forward is this package's
packed one, so that prompts, images and positions are the same as in every other method.
"""

import os
import sys
import time

import torch
from omegaconf import OmegaConf
from tensordict import TensorDict
from verl.trainer.sft_trainer import SFTTrainer
from verl.utils import tensordict_utils as tu
from verl.utils.device import get_device_name, get_torch_device
from verl.workers.config import TrainingWorkerConfig
from verl.workers.engine_workers import TrainingWorker

import verl_vaopd.student.engine  # noqa: F401  (registers the engine)
from verl_vaopd.methods.cot_sft import LogLikelihood
from verl_vaopd.model.vision import ImageInputs
from verl_vaopd.runlog.run_log import RunLog
from verl_vaopd.runlog.time_left import TimeLeft


class SupervisedWorker(TrainingWorker):
    """The host's worker, told what the student's engine needs to know of a batch."""

    def train_batch(self, data: TensorDict) -> TensorDict:
        vision = [tu.unwrap_non_tensor_data(each) for each in data["multi_modal_inputs"]]
        uids = [str(row) for row in range(len(vision))]
        self.engine.vision = {uid: ImageInputs(**each) for uid, each in zip(uids, vision, strict=True) if each}
        tokens = torch.tensor(float(data["response_mask"].values().numel()), device=get_device_name())
        torch.distributed.all_reduce(tokens, group=self.engine.get_data_parallel_group())
        mask = data["response_mask"]
        for name, value in (("token_weights", 1 / float(tokens)), ("rollout_log_probs", 0.0)):
            rows = [torch.full((len(row),), value) for row in mask.unbind()]  # the mean over the batch's tokens
            data[name] = torch.nested.as_nested_tensor(rows, layout=torch.jagged)
        del data["multi_modal_inputs"]
        tu.assign_non_tensor_stack(data, "uid", uids)
        return super().train_batch(data)


class SupervisedTrainer(SFTTrainer):
    """Differs from the host's in the engine, and in that it writes this package's run folder."""

    def __init__(self, config):
        self.run_log = RunLog(config.vaopd.output_dir)
        super().__init__(config)
        if self.rank == 0:
            self.run_log.truncate(self.resume_global_step)
            self.run_log.say(
                f"fine-tuning on {len(self.train_dataset)} right answers, "
                f"from step {self.resume_global_step} to {self.total_training_steps}"
            )
        self.step = self.resume_global_step
        self.time_left = TimeLeft(self.total_training_steps)

    def _build_engine(self):
        self.training_client = SupervisedWorker(
            TrainingWorkerConfig(
                model_type="vaopd_student",
                model_config=self.model_config,
                engine_config=self.engine_config,
                optimizer_config=self.optimizer_config,
                checkpoint_config=self.checkpoint_config,
                profiler_config=self.profiler_config,
            )
        )
        self.training_client.set_loss_fn(lambda *args, **kwargs: None)  # the host asks for one; the engine has its own
        self.engine = self.training_client.engine
        self.engine.objective = LogLikelihood()
        self.engine.frozen = tuple(self.config.vaopd.frozen)
        self.engine.vocab_size = len(self.model_config.tokenizer)
        self.engine.chunk_size = self.config.vaopd.vocab_chunk_size
        self.training_client.train_batch = self._logged(self.training_client.train_batch)

    def _logged(self, train_batch):
        """``train_batch`` that leaves a line in the run's log."""

        def run(data: TensorDict) -> TensorDict:
            started = time.time()
            output = train_batch(data)
            self.step += 1
            if self.rank == 0:
                metrics = tu.get(output, "metrics")
                seconds = time.time() - started
                record = {"step": self.step, **{name: float(metrics[name]) for name in ("loss", "grad_norm", "lr")}}
                self.run_log.metrics({**record, "time/step": seconds, "time/wall": time.time()})
                self.run_log.say(
                    f"step {self.step}/{self.total_training_steps}  loss {record['loss']:.4f}  {seconds:.1f} s"
                    f"{self.time_left.after(self.step, {'step': seconds})}"
                )
            return output

        return run


def main(path: str) -> None:
    config = OmegaConf.load(path)
    get_torch_device().set_device(int(os.environ["LOCAL_RANK"]))
    # Not the host's: on CPU it would ask for gloo twice for one device type.
    torch.distributed.init_process_group("gloo" if get_device_name() == "cpu" else None)
    trainer = SupervisedTrainer(config)
    trainer.fit()
    if trainer.rank == 0:
        source = os.path.join(config.trainer.default_local_dir, f"global_step_{trainer.step}", "huggingface")
        trainer.run_log.export(source, trainer.step)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
