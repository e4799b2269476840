"""The Ray actor that runs the driver."""

import ray
from omegaconf import OmegaConf
from verl.trainer.main_ppo import TaskRunnerV1


# As with the agent-loop worker: the host publishes a Ray actor class, its plain class is inside.
@ray.remote
class VAOPDTaskRunner(TaskRunnerV1.__ray_metadata__.modified_class):
    """Differs from the host's in the trainer it builds: this package's of ``trainer.v1.trainer_mode``."""

    def run(self, config):
        import transfer_queue as tq
        from verl.trainer.ppo.v1 import get_trainer_cls
        from verl.utils.logging_utils import configure_verl_logging

        import verl_vaopd.trainer.driver  # noqa: F401  (registers them)

        configure_verl_logging()
        OmegaConf.resolve(config)
        self.config = config
        tq.init(config.transfer_queue)
        try:
            self.trainer = get_trainer_cls(f"vaopd_{config.trainer.v1.trainer_mode}")(config=config)
            self.trainer.init()
            self.init_agent_loop_manager()
            self.trainer.fit(self.agent_loop_manager)
        finally:
            tq.close()
