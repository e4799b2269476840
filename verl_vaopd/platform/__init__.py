"""What a machine needs of verl and vLLM: the CPU platform, local sockets, names of shared memory."""
