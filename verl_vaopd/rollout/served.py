"""Which students vLLM can sample from."""

from verl_vaopd.model.families import Family

EXPERTS = ("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts")
"""What text configs call their number."""
IMAGES = "actor_rollout_ref.rollout.engine_kwargs.vllm.limit_mm_per_prompt.image"


def check_served(family: Family, model, device: str, adapters: bool, images: int) -> None:
    """Refuse a student that vLLM cannot sample from.

    Args:
        model: its config; device: ``trainer.device``; adapters: whether vLLM is sent adapters, not merged weights;
        images: the most that vLLM takes for a prompt.
    Raises:
        ValueError: it has experts, its architecture is not among vLLM's, the CPU backend would sample from another
            distribution, or vLLM serves the architecture without adapters.
    """
    if any(getattr(model.text_config, name, None) for name in EXPERTS):  # of mixtures only
        raise ValueError(
            f"a {model.model_type} student is not supported: experts' weights have not been seen to reach vLLM whole; "
            "as a teacher it runs"
        )
    if device == "cpu" and family.wrong_on_cpu and (images or not family.text_right_on_cpu):
        text = f"; without images it is right, set {IMAGES}=0" if family.text_right_on_cpu else ""
        raise ValueError(
            f"a {model.model_type} student needs a GPU: vLLM's CPU backend does not serve it rightly "
            f"({family.wrong_on_cpu}){text}; as a teacher it runs"
        )
    if family.model_types and not adapters:
        return
    from vllm import ModelRegistry  # takes seconds

    served = [name for name in model.architectures or () if name in ModelRegistry.models]
    if not served:
        raise ValueError(f"vLLM does not serve {model.architectures}: the student must be a model that it does")
    if adapters:
        from vllm.model_executor.models.interfaces import supports_lora

        if not supports_lora(ModelRegistry.models[served[0]].load_model_cls()):
            raise ValueError(
                f"actor_rollout_ref.model.lora.merge=False: vLLM serves {served[0]} without adapters; set it to true, "
                "so that merged weights are sent"
            )
