"""The rollout side: agent loop, image views, stored answers, the socket for weights."""
