"""Ray, the ports it listens at, and the hub."""

import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request

from verl_vaopd.doctor.finding import Finding
from verl_vaopd.doctor.machine import hub_cache

HUB = "https://huggingface.co"


def ray_cluster() -> Finding:
    """The cluster that ``RAY_ADDRESS`` names answers; without it a run starts its own."""
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        return Finding("Ray", "RAY_ADDRESS is not set: a run starts a cluster of its own")
    mend = "start the head (ray start --head), give its address, and RAY_AUTH_TOKEN_PATH where it asks for a token; or "
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host or "127.0.0.1", int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        return Finding("Ray", f"{address}: nobody answers ({error})", mend + "unset RAY_ADDRESS")
    code = "import ray; ray.init(logging_level='ERROR'); print(sum(node['Alive'] for node in ray.nodes()))"
    try:
        shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        if shown.returncode == 0:
            return Finding("Ray", f"{address}: {shown.stdout.split()[-1]} nodes alive")
        said = shown.stderr.strip().splitlines()[-1][:200]
    except subprocess.TimeoutExpired:
        said = "no answer within 60 s"
    return Finding("Ray", f"{address}: {said}", mend + "unset RAY_ADDRESS")


def ports() -> Finding:
    """The dashboard's port is free, and loopback can be listened on."""
    try:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
    except OSError as error:
        return Finding("ports", f"127.0.0.1 cannot be listened on ({error.strerror})", "bring the interface lo up")
    port = 8265
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            mend = "end the other Ray (ray status shows it), or expect the dashboard on the next free port"
            return Finding("ports", f"{port}, Ray's dashboard, is taken", mend)
    return Finding("ports", f"{port} (Ray's dashboard) is free")


def hub() -> Finding:
    """A way to the hub, unless it is switched off."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        models = sorted(path.name.removeprefix("models--").replace("--", "/") for path in hub_cache().glob("models--*"))
        return Finding("hub", f"HF_HUB_OFFLINE is set; in the cache: {', '.join(models) or 'no model'}")
    try:
        urllib.request.urlopen(urllib.request.Request(HUB, method="HEAD"), timeout=10).close()
        return Finding("hub", f"{HUB} answers")
    except (OSError, urllib.error.URLError) as error:
        mend = "check network and proxy (HTTPS_PROXY), or use local folders for models and data (--source)"
        return Finding("hub", f"{HUB} cannot be reached ({getattr(error, 'reason', error)})", mend)
