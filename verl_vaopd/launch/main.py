"""``verl-vaopd train key=value ...``: compose the hydra config, check everything, run on Ray."""

import contextlib
import json
import os
import signal
import sys
import threading
import time
from functools import partial
from types import SimpleNamespace

from verl_vaopd.checks.start import check
from verl_vaopd.settings.compose import compose, planned_steps

HELP = """usage: verl-vaopd train [--config-name NAME] [--dry-run] [--restarts N] [key=value ...]

Distils a Qwen3-VL student on its own rollouts. Arguments are hydra overrides of verl's config (package
verl.trainer.config) and of this package's section `vaopd`; recipes/ holds complete calls.

  --config-name NAME   (-cn NAME) vaopd_trainer (default: GPU, the paper's settings) or tiny_cpu (no GPU)
  --dry-run            print the resolved config and run the start-up checks, start nothing
  --restarts N         when a run fails or is killed, start again from its last checkpoint, N times in all (default 0)

  actor_rollout_ref.model.path=...        the student
  vaopd.teacher.path=...                  the teacher
  data.train_files=... data.val_files=... parquet files
  vaopd.output_dir=...                    folder of the run
  vaopd.method=...                        vaopd, vaopd_mass, opd, gkd, offpolicy_kd, cot_sft, grpo, grpo_va, papo,
                                          self, base, or pkg://module:Class of your own (docs/methods.md)
"""


DONE, FAILED, REFUSED, STOPPED_BY_ALARM = 0, 1, 2, 3
HUNG_GRACE_S = 30
"""What a driver that is killed since its run hangs gets to end."""
NEW_CLUSTER_SETTINGS = ("num_cpus", "num_gpus", "include_dashboard", "object_store_memory", "resources")


def ray_init_settings(settings: dict, environ: dict[str, str]) -> dict:
    """``ray.init`` for the cluster that ``RAY_ADDRESS`` names, or else for one of the run's own.

    Without an address Ray would join whatever cluster this machine runs, or ran and left a trace of.
    """
    if "RAY_ADDRESS" in environ:  # Ray refuses these for a cluster that is there already
        return {name: value for name, value in settings.items() if name not in NEW_CLUSTER_SETTINGS}
    return {**settings, "address": "local"}


def run(config) -> dict | None:
    """Run training on Ray (a local cluster, or the one ``RAY_ADDRESS`` names).

    SIGTERM makes the run save a checkpoint after its current step and end.

    Returns:
        The run's summary; None if it was asked to stop before its end.
    Raises:
        ActorDied: driver, worker or vLLM engine died.
        RayError: the driver failed otherwise.
    """
    from omegaconf import OmegaConf

    from verl_vaopd.launch.aside import WORDS, aside
    from verl_vaopd.methods import method_class
    from verl_vaopd.runlog.run_log import STOP, SUMMARY, shown_progress

    output_dir = config.vaopd.output_dir
    for left in (STOP, SUMMARY):
        if os.path.exists(path := os.path.join(output_dir, left)):
            os.remove(path)
    config.ray_kwargs.ray_init = ray_init_settings(config.ray_kwargs.ray_init, os.environ)
    with open(os.path.join(output_dir, "config.yaml"), "w") as f:
        f.write(OmegaConf.to_yaml(config, resolve=True))
    if method_class(config.vaopd.method).learns_by == "fine_tuning":
        with shown_progress(output_dir):
            config.actor_rollout_ref.model.path = fine_tune(config)
        config.trainer.val_only = config.trainer.val_before_train = True
    with aside(os.path.join(output_dir, WORDS)) as terminal, shown_progress(output_dir, terminal):
        run_on_ray(config)
    return read_summary(output_dir)


def run_on_ray(config) -> None:
    """The host's start of Ray and of the driver, with a watch over what the driver starts. Errors: see :func:`run`."""
    import ray
    from verl.trainer.main_ppo import run_ppo

    from verl_vaopd.launch.hang import HangWatch
    from verl_vaopd.launch.task_runner import VAOPDTaskRunner
    from verl_vaopd.launch.watch import ActorDied, Watch
    from verl_vaopd.runlog.phases import Phases
    from verl_vaopd.runlog.run_log import RunLog, request_stop

    watches = []
    own, output_dir = config.vaopd, config.vaopd.output_dir
    Phases(output_dir, own.hang_factor, own.hang_limit).begin("start-up")

    def end_hung(hung):
        """What hangs may not be ended by being asked: then this process goes, and its supervisor ends the rest."""
        if watches:
            threading.Thread(target=ray.kill, args=[watches[0].driver], daemon=True).start()
        time.sleep(HUNG_GRACE_S)
        RunLog(output_dir).say(f"failed: {hung}")
        time.sleep(1)  # for the terminal, which follows that file
        os._exit(FAILED)

    def start_driver(**options):
        """Called by the host when Ray is up; from then on SIGTERM, which Ray has taken, is answered here."""
        signal.signal(signal.SIGTERM, lambda *_: request_stop(output_dir))
        driver = VAOPDTaskRunner.options(name="vaopd_driver", **options).remote()
        watches.append(Watch(driver))
        return driver

    def with_options(**options):
        """The host asks so for a driver under nsys."""
        return SimpleNamespace(remote=partial(start_driver, **options))

    os.environ.setdefault("RAY_COLOR_PREFIX", "0")  # of workers' lines, which go to a file
    hangs = HangWatch(output_dir, end_hung)
    try:
        with hangs:
            run_ppo(config, task_runner_class=SimpleNamespace(remote=start_driver, options=with_options))
    except ray.exceptions.RayError as error:
        if hangs.hung:
            raise hangs.hung from error
        if died := watches and watches[0].last_look(error):
            raise ActorDied(died) from error
        raise
    finally:
        for watch in watches:
            watch.close()
        ray.shutdown()


def fine_tune(config) -> str:
    """Supervised fine-tuning on the teacher's right answers, unless it is done. Returns the student's folder.

    Raises:
        RuntimeError: it ended with an error, which is shown.
    """
    import subprocess

    from omegaconf import OmegaConf

    from verl_vaopd.launch.aside import shown_if_it_fails
    from verl_vaopd.runlog.run_log import RunLog
    from verl_vaopd.sft.config import sft_config

    output_dir, steps = config.vaopd.output_dir, planned_steps(config)
    student = os.path.join(output_dir, "student")
    done = RunLog(output_dir).chosen()
    if done and done["step"] >= steps:
        return student
    path = os.path.join(output_dir, "sft.yaml")
    OmegaConf.save(sft_config(config, steps), path)
    workers = config.ray_kwargs.ray_init.get("runtime_env", {}).get("env_vars", {})
    ranks = f"--nproc-per-node={config.trainer.n_gpus_per_node}"
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        ranks,
        "-m",
        "verl_vaopd.sft.trainer",
        path,
    ]
    with open(os.path.join(output_dir, "sft.log"), "w") as log:
        ended = subprocess.run(command, env={**os.environ, **workers}, stdout=log, stderr=subprocess.STDOUT)
    with shown_if_it_fails(log.name):
        if ended.returncode:
            raise RuntimeError(f"fine-tuning ended with status {ended.returncode}: {log.name} says why")
    return student


def read_summary(output_dir: str) -> dict | None:
    """What a finished run left in ``summary.json``."""
    from verl_vaopd.runlog.run_log import SUMMARY

    path = os.path.join(output_dir, SUMMARY)
    if not os.path.exists(path):
        return None
    with open(path) as f:
        return json.load(f)


def take_restarts(argv: list[str]) -> tuple[int, list[str]]:
    """The number of ``--restarts N`` (or ``--restarts=N``), and the other arguments.

    Raises:
        ValueError: it is no whole number of 0 or more.
    """
    restarts, others, arguments = "0", [], iter(argv)
    for argument in arguments:
        name, _, value = argument.partition("=")
        if name == "--restarts":
            restarts = value or next(arguments, "")
        else:
            others.append(argument)
    if not (restarts.isascii() and restarts.isdigit()):
        raise ValueError(f"--restarts {restarts}: must be a whole number, 0 or more")
    return int(restarts), others


def parse_arguments(argv: list[str]) -> tuple[str, bool, list[str]]:
    """Name of the config, whether ``--dry-run`` is there, and the hydra overrides.

    Raises:
        ValueError: an unknown option, or ``--config-name`` without a name.
    """
    config_name, dry_run, overrides = "vaopd_trainer", False, []
    arguments = iter(argv)
    for argument in arguments:
        option, _, value = argument.partition("=")
        if option in ("--config-name", "-cn"):
            config_name = value or next(arguments, "")
            if not config_name or config_name.startswith("-"):
                raise ValueError(f"{option} wants a name: vaopd_trainer or tiny_cpu")
        elif argument == "--dry-run":
            dry_run = True
        elif argument.startswith("-"):
            raise ValueError(f"unknown option {argument}")
        else:
            overrides.append(argument)
    return config_name, dry_run, overrides


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``verl-vaopd train``.

    Returns:
        The exit status: 0 done, or stopped as asked (then there is no summary.json); 1 failed, 2 refused, 3 stopped by
        an alarm; 128 + N ended by signal N.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if "--help" in argv or "-h" in argv:
        print(HELP, end="")
        return 0
    from verl_vaopd.launch.aside import WORDS, held_back
    from verl_vaopd.launch.own_cluster import keep_private, ray_logs
    from verl_vaopd.launch.supervisor import current_process_is_supervised, run_supervised

    try:
        restarts, argv = take_restarts(argv)
        config_name, dry_run, overrides = parse_arguments(argv)
    except ValueError as error:
        print(f"verl-vaopd train: {error}\n\n{HELP}", file=sys.stderr)
        return REFUSED
    if not current_process_is_supervised():
        return run_supervised(
            [sys.executable, "-m", "verl_vaopd.launch.main", *argv],
            env={**os.environ, "VAOPD_SUPERVISED": "1"},
            restarts=restarts,
            final=(DONE, REFUSED, STOPPED_BY_ALARM),
        )

    from verl_vaopd.checks.attention import said
    from verl_vaopd.checks.best import said_of_best
    from verl_vaopd.checks.trained import said_of_trained
    from verl_vaopd.settings.steps import said_of_epochs

    try:
        config = compose(config_name, overrides)
        if config.trainer.device == "cpu":
            os.environ["VERL_PLATFORM"] = "cpu"  # before verl is imported: it loads verl_vaopd.platform.plugin
        if "RAY_ADDRESS" not in os.environ:
            keep_private(os.environ)
        print("checking settings, models and data", flush=True)
        epochs = config.trainer.total_epochs
        with held_back() as words:
            missing, attention = check(config, dry_run), said(config)
        lines = [*said_of_trained(config), *said_of_best(config), *said_of_epochs(config, epochs)]
        print(attention, *lines, sep="\n", flush=True)
    except ValueError as error:
        print(f"verl-vaopd train: {error}", file=sys.stderr)
        return REFUSED
    if dry_run:
        from omegaconf import OmegaConf

        print(OmegaConf.to_yaml(config, resolve=True))
        print("settings are consistent" + ("" if missing else ", models and data fit each other"))
        for each in missing:
            print(f"not here yet, so not checked: {each}")
        return 0

    from ray.exceptions import RayError

    from verl_vaopd.launch.watch import ActorDied
    from verl_vaopd.runlog.alarm import StoppedByAlarm
    from verl_vaopd.runlog.run_log import RunLog, summary_table

    output_dir = config.vaopd.output_dir
    done = read_summary(output_dir)
    if done and done["steps"] >= planned_steps(config):
        print(f"{output_dir} is finished; vaopd.output_dir=... (RUN_DIR of a recipe) makes another run")
        print("\n" + summary_table(done))
        return DONE
    os.makedirs(output_dir, exist_ok=True)
    worker_log = os.path.join(output_dir, WORDS)
    with open(worker_log, "a") as f:
        f.writelines(words)
    print(f"run folder: {output_dir}\nwhat libraries and workers say: {worker_log}", flush=True)
    print("starting Ray, vLLM, student and teacher", flush=True)
    try:
        summary = run(config)
    except KeyboardInterrupt:
        print("verl-vaopd train: stopped", file=sys.stderr)
        return 128 + signal.SIGINT
    except (ActorDied, RayError, RuntimeError) as error:
        reason = getattr(error, "cause", None) or error  # a task's own exception, or what died
        if isinstance(error, RayError):
            print(error, file=sys.stderr)  # with the task's own traceback
        logs = f"{worker_log}; Ray's own logs: {ray_logs(os.environ)}"
        print(f"verl-vaopd train: {reason}\nwhat libraries and workers said: {logs}", file=sys.stderr)
        with contextlib.suppress(OSError):  # a full disk may be why it failed
            RunLog(output_dir).say(f"failed: {' '.join(str(reason).split())}")
        return STOPPED_BY_ALARM if isinstance(reason, StoppedByAlarm) else FAILED
    if summary is None:
        print("verl-vaopd train: stopped as asked; the same command goes on from the last checkpoint", flush=True)
    else:
        print("\n" + summary_table(summary))
    return DONE


if __name__ == "__main__":
    sys.exit(main())
