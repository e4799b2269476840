"""verl on a machine without an accelerator, found by verl through its ``verl.plugins`` entry point.

verl imports this module in every process that imports verl. Its platform is registered with ``VERL_PLATFORM=cpu``
alone (``verl-vaopd train`` sets it when ``trainer.device=cpu``). On GPU machines too, processors of more families are
found, shared memory is named after the run, and ranks meet at the address that Ray's nodes know each other by; on a
Ray node of ``verl_vaopd.launch.cluster`` it sees that Slurm's SIGTERM does not end the workers.
"""

import os

from verl_vaopd.platform.processors import find_every_processor
from verl_vaopd.platform.segments import SEGMENT_PREFIX, name_segments
from verl_vaopd.platform.signals import HOLD_SIGTERM, hold_sigterm

find_every_processor()

if SEGMENT_PREFIX in os.environ:
    name_segments(os.environ[SEGMENT_PREFIX])

if os.environ.get(HOLD_SIGTERM) == "1":
    hold_sigterm()

if "RAY_RAYLET_PID" in os.environ and "GLOO_SOCKET_IFNAME" not in os.environ:
    import ray

    from verl_vaopd.platform.interfaces import use_interface_of

    use_interface_of(ray.util.get_node_ip_address(), os.environ)

if os.environ.get("VERL_PLATFORM", "").strip().lower() == "cpu":
    from verl_vaopd.platform import cpu  # noqa: F401  (registers the platform)
