"""``verl-vaopd answers key=value ...``: the teacher answers every training prompt; arguments are those of a run."""

import os
import random
import sys

HELP = """usage: verl-vaopd answers [--config-name NAME] [--dry-run] [key=value ...]

Has the teacher answer every prompt of data.train_files, rollout.n times, with vLLM on this machine, under the sampling
settings of the student's rollouts. What the methods offpolicy_kd and cot_sft learn from. Arguments are those of
verl-vaopd train; vaopd.answers names the folder to write. A call that was stopped goes on where it stopped.

  --dry-run            check settings, models and rows, sample nothing
"""


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0 done, 2 refused."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if "--help" in argv or "-h" in argv:
        print(HELP, end="")
        return 0
    from verl_vaopd.launch.supervisor import current_process_is_supervised, run_supervised

    if not current_process_is_supervised():
        env = {**os.environ, "VAOPD_SUPERVISED": "1"}
        return run_supervised([sys.executable, "-m", "verl_vaopd.launch.answers", *argv], env=env)
    from verl_vaopd.launch.aside import held_back
    from verl_vaopd.launch.main import parse_arguments
    from verl_vaopd.platform.environment import put_environment_first
    from verl_vaopd.platform.loopback import LOOPBACK
    from verl_vaopd.settings.compose import compose

    try:
        config_name, dry_run, overrides = parse_arguments(argv)
        config = compose(config_name, overrides)
        settings_of_workers = config.ray_kwargs.ray_init.get("runtime_env", {}).get("env_vars", {})
        for name, value in {**LOOPBACK, **settings_of_workers}.items():  # before verl and vLLM are imported
            os.environ.setdefault(name, str(value))
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        put_environment_first(os.environ)
        if dry_run:
            with held_back():
                checked(config)
            print(f"settings, models and data fit each other; answers would go to {config.vaopd.answers}")
            return 0
        manifest = answer(config)
    except ValueError as error:
        print(f"verl-vaopd answers: {error}", file=sys.stderr)
        return 2
    print(
        f"{config.vaopd.answers}: {manifest['answers']} answers to {manifest['prompts']} prompts, "
        f"{manifest['accuracy']:.1%} right, {manifest['tokens_mean']:.0f} tokens on average"
    )
    return 0


def answer(config) -> dict:
    """Check, then sample what is not there yet. Returns the manifest's figures."""
    from verl_vaopd.launch.aside import WORDS, aside, held_back, shown_if_it_fails

    with held_back() as words:
        vaopd, processor = checked(config)
    os.makedirs(vaopd.answers, exist_ok=True)
    log = os.path.join(vaopd.answers, WORDS)
    print(f"what libraries say: {log}", flush=True)
    with shown_if_it_fails(log), aside(log) as terminal:
        print(*words, end="", flush=True)
        return sampled(config, processor, say=lambda line: print(line, file=terminal))


def checked(config) -> tuple:
    """Section ``vaopd`` as its dataclass, and the processor of models and data that fit each other.

    Raises:
        ValueError: what a run on these answers would be refused for too, before they are sampled.
    """
    from verl_vaopd.checks.models import check_models, model_type_of
    from verl_vaopd.checks.rows import check_rows, image_limit
    from verl_vaopd.checks.start import check_settings
    from verl_vaopd.settings.compose import instantiate
    from verl_vaopd.settings.steps import check_steps

    vaopd, data = instantiate(config), config.data
    if not vaopd.answers:
        raise ValueError("vaopd.answers is not set: name the folder to write")
    second_view = check_settings(config).second_view(random.Random(0), validate=False)
    student = config.actor_rollout_ref.model.path
    processor = check_models(student, vaopd.teacher.path)
    limit, model_type = image_limit(config), model_type_of(student)
    rows = check_rows(data.train_files, "data.train_files", processor, data, second_view, limit, model_type)
    check_steps(config, rows)
    return vaopd, processor


def sampled(config, processor, say) -> dict:
    """Sample the answers that are not there yet."""
    from verl.trainer.ppo.utils import create_rl_dataset

    from verl_vaopd.answers.sampling import answer_settings, sample_answers
    from verl_vaopd.answers.store import AnswerWriter

    data = config.data
    dataset = create_rl_dataset(
        data.train_files, data, processor.tokenizer, processor, max_samples=data.train_max_samples
    )
    writer = AnswerWriter(config.vaopd.answers, answer_settings(config, len(dataset)))
    return sample_answers(config, dataset, processor, writer, say)


if __name__ == "__main__":
    sys.exit(main())
