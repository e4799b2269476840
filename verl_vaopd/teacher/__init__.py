"""Frozen FSDP teacher: scores every rollout under both views in one forward."""
