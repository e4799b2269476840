"""The paper's eight benchmarks: answers of a served checkpoint, scores by the toolkit's own scorers, avg@k."""
