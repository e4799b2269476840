"""Frozen FSDP teacher: scores every rollout under the original and the degraded image in one forward."""
