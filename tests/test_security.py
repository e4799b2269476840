"""SECURITY.md's claims about code and configuration; tests/test_stack.py has those about a run."""

import ast
import copy
import pickle
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf

from verl_vaopd.checks.host_settings import validate_host_settings
from verl_vaopd.data.synthetic_geometry import make_row
from verl_vaopd.evaluation.run import Settings
from verl_vaopd.grading.grading import same_answer
from verl_vaopd.model.head import load_lm_head, local_checkpoint
from verl_vaopd.serving import EvaluationError
from verl_vaopd.serving.server import local_checkpoint as evaluated_checkpoint
from verl_vaopd.settings.compose import compose

ROOT = Path(__file__).parents[1]
CODE = sorted(path for folder in ("verl_vaopd", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
SCRIPTS = [
    path for folder in ("recipes", "scripts", "docker") for path in sorted((ROOT / folder).rglob("*")) if path.is_file()
]
REQUIRED = [
    "vaopd.teacher.path=teacher",
    "actor_rollout_ref.model.path=student",
    "data.train_files=train.parquet",
    "data.val_files=val.parquet",
]
UNSAFE = {
    *("pickle.load", "pickle.loads", "dill.load", "joblib.load", "marshal.loads", "yaml.load", "yaml.unsafe_load"),
    *("eval", "exec", "os.system", "os.popen", "tarfile.open", "shutil.unpack_archive", "pandas.read_pickle"),
}
OWN_PICKLE = ("verl_vaopd/serving/toolkit.py", "pickle.load")
"""Verdicts that the toolkit's own process wrote a moment before, into a folder made for them."""


def dotted(node) -> str:
    return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def calls(path: Path) -> list[tuple[str, dict]]:
    """Name and keyword arguments of every call in a file."""
    found = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    return [(dotted(call.func), {each.arg: each.value for each in call.keywords}) for call in found]


def test_nothing_is_unpickled_evaluated_or_extracted():
    seen = set()
    for path in CODE:
        for name, keywords in calls(path):
            if name in UNSAFE or name.split(".")[-1] in ("extractall", "unpack_archive"):
                seen.add((str(path.relative_to(ROOT)), name))
            if name == "torch.load":
                assert getattr(keywords.get("weights_only"), "value", None) is True, path
            for option in ("allow_pickle", "shell"):
                assert not getattr(keywords.get(option), "value", False), (path, name, option)
    assert seen == {OWN_PICKLE}


def test_code_of_a_checkpoint_is_never_asked_for():
    for path in CODE:
        assert not [name for name, keywords in calls(path) if "trust_remote_code" in keywords], path
    for path in [*SCRIPTS, *(ROOT / "verl_vaopd/config").rglob("*.yaml")]:
        assert not re.search("trust[_-]remote[_-]code", path.read_text()), path


def test_scripts_run_nothing_that_they_download():
    for path in SCRIPTS:
        assert not re.search(r"\b(curl|wget)\b", path.read_text()), path


TRUSTING = [
    "actor_rollout_ref.model.trust_remote_code",
    "data.trust_remote_code",
    "reward.reward_model.rollout.engine_kwargs.vllm.trust_remote_code",
    "actor_rollout_ref.rollout.engine_kwargs.vllm.trust_remote_code",
    "actor_rollout_ref.rollout.engine_kwargs.vllm.trust-remote-code",
]


@pytest.fixture(scope="module")
def composed():
    return compose("vaopd_trainer", REQUIRED)


def with_setting(composed, name: str, value):
    config = copy.deepcopy(composed)
    OmegaConf.update(config, name, value, force_add=True)
    return config


@pytest.mark.parametrize("name", TRUSTING)
def test_settings_that_run_a_checkpoints_code_are_refused(composed, name):
    with pytest.raises(ValueError, match=f"{re.escape(name)}=True: must be false"):
        validate_host_settings(with_setting(composed, name, True))


def test_every_such_setting_of_verl_is_off(composed):
    """They are found by their name, wherever they are."""
    found = re.findall(r"trust_remote_code: (\S+)", OmegaConf.to_yaml(composed))
    assert len(found) >= 3 and set(found) <= {"false", "null"}


@pytest.mark.parametrize(
    "name, value, says",
    [
        ("ray_kwargs.ray_init.runtime_env.env_vars.WANDB_API_KEY", "abc", "env_vars.WANDB_API_KEY holds a secret"),
        ("ray_kwargs.ray_init.runtime_env.env_vars.HF_TOKEN", "abc", "env_vars.HF_TOKEN holds a secret"),
        ("actor_rollout_ref.rollout.engine_kwargs.vllm.api-key", "abc", "vllm.api-key holds a secret"),
        ("actor_rollout_ref.rollout.engine_kwargs.vllm.hf_token", "abc", "vllm.hf_token holds a secret"),
        ("actor_rollout_ref.rollout.load_format", "pt", "rollout.load_format='pt': must be one of"),
        ("actor_rollout_ref.rollout.engine_kwargs.vllm.worker_extension_cls", "a.B", "must name the same socket"),
    ],
)
def test_secrets_and_other_unsafe_settings_are_refused(composed, name, value, says):
    with pytest.raises(ValueError, match=re.escape(says)) as refused:
        validate_host_settings(with_setting(composed, name, value))
    assert "abc" not in str(refused.value)


@pytest.mark.parametrize("arguments", [("--trust-remote-code",), ("--api-key=abc",), ("--load_format", "pt")])
def test_evaluation_refuses_unsafe_arguments_of_its_server(tmp_path, arguments):
    settings = Settings("checkpoint", (), tmp_path, server_arguments=arguments)
    with pytest.raises(EvaluationError, match="after --") as refused:
        settings.check()
    assert "abc" not in str(refused.value)


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.fixture
def pickled(tmp_path):
    """A checkpoint whose weights are a pickle that would leave ``tmp_path/run``."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "qwen3_vl"}')
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(tmp_path / "run")))
    return folder


def test_a_checkpoint_of_pickles_is_refused_unread(pickled, tmp_path):
    for load, error in (
        (local_checkpoint, ValueError),
        (load_lm_head, ValueError),
        (evaluated_checkpoint, EvaluationError),
    ):
        with pytest.raises(error, match="checkpoint holds no model.safetensors"):
            load(str(pickled))
    assert not (tmp_path / "run").exists()
    pickle.loads((pickled / "pytorch_model.bin").read_bytes())
    assert (tmp_path / "run").exists()  # what would have happened


@pytest.mark.parametrize("name", ["pytorch_model.bin", "../model.safetensors", "/etc/model.safetensors"])
def test_an_index_that_leads_elsewhere_is_refused(pickled, name):
    index = f'{{"weight_map": {{"lm_head.weight": "{name}"}}}}'
    (pickled / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ValueError, match=f"names '{re.escape(name)}': only .safetensors files beside it"):
        local_checkpoint(str(pickled))


def test_a_parquet_file_brings_no_code(tmp_path):
    """Its schema names a Python type, whose pickle pyarrow once loaded (CVE-2023-47248)."""
    import datasets

    code = pickle.dumps(Payload(tmp_path / "run"))
    metadata = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": code}
    table = pa.Table.from_pylist([make_row("train", 0)])
    field = pa.field("extra", pa.string(), metadata=metadata)
    table = table.append_column(field, pa.array(["x"]))
    path = tmp_path / "rows.parquet"
    pq.write_table(table, path)
    stored = pq.read_schema(path).field("extra")
    assert stored.metadata[b"ARROW:extension:metadata"] == code  # it is there, as bytes
    assert pq.ParquetFile(path).read().num_rows == 1
    cache = str(tmp_path / "cache")
    assert len(datasets.load_dataset("parquet", data_files=str(path), split="train", cache_dir=cache)) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "answer",
    [
        "__import__('pathlib').Path('{run}').touch()",
        "exec(\"open('{run}', 'w')\")",
        "(lambda: open('{run}', 'w'))()",
        "\\text{open('{run}','w')}",
    ],
)
def test_a_students_answer_is_not_run(tmp_path, answer):
    """mathruler parses answers with sympy's parse_expr, which evaluates; it is handed two unknown letters at most."""
    assert not same_answer(answer.replace("{run}", str(tmp_path / "run")), "7")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("answer", ["9^{9^{9}}", "9**9**9", "99999999!", "\\sum_{n=1}^{999}n", "((" * 200, "7" * 300])
def test_an_answer_too_large_to_evaluate_is_compared_as_text(answer):
    """Without the bounds the first three do not come back."""
    assert not same_answer(answer, "7")
    assert same_answer(answer, answer)


def test_images_are_pinned_to_a_release():
    for image in (ROOT / "docker").glob("Dockerfile*"):
        bases = re.findall(r"^FROM (\S+)", image.read_text(), re.MULTILINE)
        assert bases and all(re.search(r":\S*\d", base) and ":latest" not in base for base in bases)


def test_every_claim_of_security_md_has_its_test():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "SECURITY.md").read_text())
    assert len(named) > 15
    for path, name in named:
        assert f"def {name}(" in (ROOT / path).read_text(), (path, name)
