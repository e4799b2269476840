"""FSDP student: one packed Qwen3-VL forward whose loss is the weighted full-vocabulary reverse KL."""
