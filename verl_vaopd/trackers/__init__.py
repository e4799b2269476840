"""What a run logs, shown by TensorBoard, Weights & Biases, MLflow, SwanLab: one run, however often it starts."""
