"""What the update path and its naive twin must agree on, without importing verl."""

TEMPERATURE = 0.7  # of the rollouts
REWARDS = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]  # of the twelve rows; "text" earns none
FAULTY = ("teacher_hidden", "head")  # what holds the NaN or infinity
