"""vLLM's end of the socket over which the student's weights come (``engine_kwargs.vllm.worker_extension_cls``)."""

from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension

from verl_vaopd.platform.loopback import private_socket


class PrivateSocketExtension(vLLMColocateWorkerExtension):
    """Differs from the host's in the socket's place: what comes through it is unpickled, and /tmp is everybody's."""

    def _get_zmq_handle(self) -> str:
        return private_socket(super()._get_zmq_handle())
