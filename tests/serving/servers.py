"""Real vLLM servers on CPU with tiny models: the student's and the judge's."""

import os
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

from verl_vaopd.platform.child import die_with_parent
from verl_vaopd.serving.server import SERVED_NAME, free_port, served_models, server_command, stop

JUDGE_CONTEXT = 16384  # the toolkit shows the judge long examples


def make_models(folder: Path) -> tuple[Path, Path]:
    """An untrained student, and a judge with room for long prompts that says something to everything."""
    import torch

    from verl_vaopd.tiny.models import make_config, make_model, random_models, save_model
    from verl_vaopd.tiny.processor import make_processor
    from verl_vaopd.tiny.tokenizer import SPECIAL_TOKENS

    student, _ = random_models(folder)
    processor = make_processor()
    config = make_config(processor.tokenizer, teacher=False, hidden=64, vision_hidden=32)
    config.text_config.max_position_embeddings = JUDGE_CONTEXT
    model = make_model(config, seed=5, std=0.15)
    head, tokenizer = model.get_output_embeddings().weight, processor.tokenizer
    with torch.no_grad():  # Logits of 0 are never the highest of 400: no answer is without text.
        head[tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS))] = 0
        head[len(tokenizer) :] = 0
    return student, save_model(model, processor, folder / "judge")


# One process fewer for each server, no thread bound to a core that both would share, no compiler.
QUICK = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "TORCH_COMPILE_DISABLE": "1",
}
UNI = ["--distributed-executor-backend", "uni", "--max-num-seqs", "32"]
SMALL = ["--limit-mm-per-prompt", '{"image": 1, "video": 0}', *UNI]
TEXT = ["--limit-mm-per-prompt", '{"image": 0, "video": 0}', *UNI, "--enable-chunked-prefill"]
TEXT += ["--max-num-batched-tokens", "512", "--override-generation-config", '{"max_new_tokens": 8}']


class Server:
    """A vLLM server in a process of its own, as ``verl-vaopd evaluate`` starts one."""

    def __init__(self, model: Path, log: Path, arguments: list[str]):
        port = free_port()
        self.url, self.log = f"http://127.0.0.1:{port}/v1", log
        with open(log, "wb") as written:
            self.process = subprocess.Popen(
                server_command(model, port, arguments),
                stdout=written,
                stderr=subprocess.STDOUT,
                env={**os.environ, **QUICK},
                preexec_fn=die_with_parent,
            )

    def wait(self) -> None:
        deadline = time.monotonic() + 600
        while served_models(self.url) != [SERVED_NAME]:
            assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.5)

    def stop(self) -> None:
        stop(self.process)


@contextmanager
def both_servers(student: Path, judge: Path, folder: Path):
    """(student's, judge's), started together."""
    servers = [Server(student, folder / "student.log", SMALL), Server(judge, folder / "judge.log", TEXT)]
    try:
        for server in servers:
            server.wait()
        yield servers
    finally:
        for server in servers:
            server.stop()
