"""Teacher-written answers: sampled once with vLLM, stored as token ids, replayed where a student would sample."""
