"""One vLLM server on a checkpoint, or one that is running already."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import openai
from tqdm import tqdm

from verl_vaopd.model.safe_weights import require_safetensors
from verl_vaopd.platform.child import die_with_parent
from verl_vaopd.platform.environment import NOT_COMPILED, put_environment_first
from verl_vaopd.platform.loopback import LOOPBACK
from verl_vaopd.serving import EvaluationError

LONGEST = 32768
"""Prompt and answer, tokens: the images of one MMMU question may take half of it."""
SERVED_NAME = "student"


def stop(process: subprocess.Popen) -> None:
    """End a child process, politely first."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def on_cpu() -> bool:
    """Whether the installed vLLM is the CPU build."""
    try:
        return bool(version("vllm-cpu"))
    except PackageNotFoundError:
        return False


def longest_sequence(checkpoint: Path) -> int:
    """Tokens that the server is to hold for one question: at most what the checkpoint's config allows."""
    config = json.loads((checkpoint / "config.json").read_text())
    return min(LONGEST, config.get("text_config", config).get("max_position_embeddings", LONGEST))


def server_command(checkpoint: Path, port: int, extra: Sequence[str]) -> list[str]:
    """vLLM's OpenAI-compatible server on loopback; ``extra`` arguments come last and win."""
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", str(checkpoint), "--served-model-name", SERVED_NAME, "--host", "127.0.0.1"]
    longest = str(longest_sequence(checkpoint))
    command += ["--port", str(port), "--max-model-len", longest]
    command += ["--limit-mm-per-prompt", '{"image": 16, "video": 0}']
    if on_cpu():
        # A seed with a chunked prefill ends the engine of the CPU build ("CPU Generator does not use offset").
        command += ["--no-enable-chunked-prefill", "--max-num-batched-tokens", longest]
        command += ["--dtype", "float32", "--enforce-eager"]
    return command + list(extra)


@contextmanager
def vllm_server(checkpoint: Path, log: Path, extra: Sequence[str] = ()) -> Iterator[str]:
    """Start a server, wait until it answers, yield its base URL, and stop it.

    Raises:
        EvaluationError: vLLM is missing, or the server ended; its last words are given.
    """
    if importlib.util.find_spec("vllm") is None:
        raise EvaluationError("vLLM is not installed here: bash scripts/setup.sh, or give --base-url")
    port = free_port()
    on_the_cpu = {"VLLM_CPU_KVCACHE_SPACE": "2"} if on_cpu() else {}
    environment = {**LOOPBACK, **NOT_COMPILED, **on_the_cpu, **os.environ}
    put_environment_first(environment)
    with open(log, "ab") as written:
        process = subprocess.Popen(
            server_command(checkpoint, port, extra),
            stdout=written,
            stderr=subprocess.STDOUT,
            env=environment,
            preexec_fn=die_with_parent,
        )
    url = f"http://127.0.0.1:{port}/v1"
    try:
        with tqdm(desc="vLLM starts", bar_format="{desc}: {elapsed}", mininterval=2) as bar:
            while served_models(url) is None:
                if process.poll() is not None:
                    last = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
                    raise EvaluationError(f"vLLM ended with status {process.returncode}, see {log}:\n{last}")
                time.sleep(0.5)
                bar.update()
        yield url
    finally:
        stop(process)


def served_models(base_url: str, api_key: str = "none") -> list[str] | None:
    """Names of the models a server offers; None if nothing answers there.

    Raises:
        EvaluationError: it answers, but not with a list of models.
    """
    try:
        with openai.OpenAI(base_url=base_url, api_key=api_key, max_retries=0, timeout=10) as client:
            return [model.id for model in client.models.list()]
    except openai.APIConnectionError:
        return None
    except openai.APIStatusError as error:
        raise EvaluationError(
            f"{base_url}/models answers {error.status_code}: --base-url is to end where /models and /chat/completions "
            "begin, as in http://host:8000/v1"
        ) from None


def checked_model(base_url: str, name: str, api_key: str) -> str:
    """The name, if the server has it.

    Raises:
        EvaluationError: nothing answers, or the model is not among those served.
    """
    served = served_models(base_url, api_key)
    if served is None:
        raise EvaluationError(f"no server answers at {base_url}: start it, or correct --base-url")
    if name not in served:
        raise EvaluationError(f"{base_url} does not serve {name!r} but {', '.join(served)}: correct --served-model")
    return name


def local_checkpoint(name: str) -> Path:
    """The folder of a checkpoint: as given, or fetched from the hub.

    Raises:
        EvaluationError: no such folder, and the hub does not give it.
    """
    folder = Path(name)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise EvaluationError(f"{folder} has no config.json: give the folder of a Hugging Face checkpoint")
        return checked_weights(folder.resolve())
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        fetched = snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.jinja", "*.txt"])
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise EvaluationError(f"{name} is no folder here, and the hub does not give it: {error}") from None
    return checked_weights(Path(fetched))


def checked_weights(folder: Path) -> Path:
    """The folder, if its weights are in safetensors format; EvaluationError otherwise."""
    try:
        require_safetensors(str(folder))
    except ValueError as error:
        raise EvaluationError(str(error)) from None
    return folder
