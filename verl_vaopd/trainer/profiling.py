"""verl's profiler over the teacher too: by the student's settings, in the same steps."""

from contextlib import contextmanager

from omegaconf import DictConfig, OmegaConf


class Profiling:
    """Which workers are recorded in a step, as a part of a trainer of verl."""

    def _start_profiling(self):
        with self._teacher_in_the_reference_models_place():
            super()._start_profiling()

    def _stop_profiling(self):
        with self._teacher_in_the_reference_models_place():
            super()._stop_profiling()

    @contextmanager
    def _teacher_in_the_reference_models_place(self):
        """The host starts and stops a reference model's workers, once where they are the student's too; there is none
        here, and the host knows no teacher."""
        self.use_reference_policy, self.ref_policy_wg = True, self.teacher_wg
        try:
            yield
        finally:
            self.use_reference_policy, self.ref_policy_wg = False, None


def nsight_settings(config: DictConfig) -> dict:
    """What a worker group is given so that Ray starts its processes under nsys; empty for other tools."""
    profiler = config.global_profiler
    if profiler.tool != "nsys" or profiler.steps is None:
        return {}
    options = OmegaConf.to_container(profiler.global_tool_config.nsys.worker_nsight_options)
    return {"profile_steps": profiler.steps, "worker_nsight_options": options}
