"""The step and the driver around it, Ray workers, alarms, checkpoints."""
