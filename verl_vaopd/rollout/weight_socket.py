"""vLLM's end of the socket over which the student's weights come (``engine_kwargs.vllm.worker_extension_cls``)."""

from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension

from verl_vaopd.platform.loopback import private_socket
from verl_vaopd.rollout.deepstack import zero_deepstack_buffers


class PrivateSocketExtension(vLLMColocateWorkerExtension):
    """Differs from the host's in the socket's place: what comes through it is unpickled, and /tmp is everybody's.

    And in what follows new weights: ``rollout/deepstack.py`` says why.
    """

    def _get_zmq_handle(self) -> str:
        return private_socket(super()._get_zmq_handle())

    def update_weights_from_ipc(self, *args, **kwargs) -> None:
        super().update_weights_from_ipc(*args, **kwargs)
        for model in self._iter_all_models():
            zero_deepstack_buffers(model)
