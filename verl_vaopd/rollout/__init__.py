"""Agent loop, image views, replay of stored answers, the socket for weights."""
