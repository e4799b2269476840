"""The embedded default: a tiny Qwen3-VL teacher that reads, a student that reads badly, and their data."""
