"""The environment of a Ray cluster that a run starts for itself, on this machine."""

import os
import secrets
import tempfile
from collections.abc import MutableMapping
from pathlib import Path

from verl_vaopd.platform.environment import put_environment_first
from verl_vaopd.platform.loopback import LOOPBACK, PYTHONS_PART, RAYS_PART, holds_sockets, private_folder


def keep_private(environ: MutableMapping[str, str]) -> None:
    """Loopback, a token and a folder of the user's own; what is set already stays, but for the token.

    Raises:
        ValueError: RAY_AUTH_MODE switches Ray's tokens off, the folder cannot be made private, or RAY_TMPDIR is too
            long a path for sockets.
    """
    mode = environ.get("RAY_AUTH_MODE", "token")
    if mode.lower() != "token":
        raise ValueError(
            f"RAY_AUTH_MODE={mode!r}: unset it; without a token anyone on this machine may run code as you"
        )
    keep_sockets_short(environ)
    put_environment_first(environ)
    defaults = {
        **LOOPBACK,
        # Ray's name for a cluster of this machine alone: every daemon then binds to loopback.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        # Of the tasks that Ray's head remembers for its dashboard, by default 100,000: 0.5 MB a step on tiny models.
        "RAY_task_events_max_num_task_in_gcs": "5000",
    }
    environ.update({name: value for name, value in defaults.items() if name not in environ})
    if not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(environ):
        keep_token_private(Path.home() / ".ray" / "auth_token")


def keep_sockets_short(environ: MutableMapping[str, str]) -> None:
    """Ray's and vLLM's sockets in the user's private folder, Python's too where TMPDIR is too long a path for them.

    Raises:
        ValueError: RAY_TMPDIR, which the user set, is too long.
    """
    folder = private_folder()
    environ.setdefault("RAY_TMPDIR", folder)  # Ray lets everybody write to its own
    environ.setdefault("VLLM_RPC_BASE_PATH", folder)
    if not holds_sockets(environ["RAY_TMPDIR"]):
        raise ValueError(
            f"RAY_TMPDIR={environ['RAY_TMPDIR']}: paths of Ray's sockets there would exceed 107 bytes: unset it, "
            f"or name a folder of at most {107 - RAYS_PART}"
        )
    if not holds_sockets(tempfile.gettempdir(), PYTHONS_PART):
        environ["TMPDIR"] = folder


def keep_token_private(path: Path) -> None:
    """Ray's token file, readable by the user alone. Ray itself would make it readable by everybody."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        with tempfile.NamedTemporaryFile("w", dir=path.parent) as file:  # mode 0600
            file.write(secrets.token_hex(32))
            file.flush()
            try:
                os.link(file.name, path)  # another run may have been faster: its token stays
            except FileExistsError:
                pass
    path.chmod(0o600)


def ray_logs(environ: MutableMapping[str, str]) -> str:
    """Where Ray writes the logs of all workers."""
    return os.path.join(environ.get("RAY_TMPDIR", "/tmp"), "ray", "session_latest", "logs")
