"""The time that is left: worked out by hand from what steps, validations and saves took."""

import pytest

from verl_vaopd.runlog.time_left import TimeLeft, duration


def test_steps_count_by_their_median():
    left = TimeLeft(steps=13)
    assert left.after(1, {"step": 60.0}) == "  12 min left"  # 12 steps of the first one's minute
    left.after(2, {"step": 2.0})
    # The median of 60, 2 and 3 is 3; ten steps of it.
    assert left.after(3, {"step": 3.0}) == "  30 s left"


def test_only_the_recent_steps_count():
    left = TimeLeft(steps=50)
    for step in range(1, 21):
        left.after(step, {"step": 100.0})
    for step in range(21, 31):
        left.after(step, {"step": 1.0})
    # Of the last 20, the median of ten of 100 and ten of 1 is 50.5; one more of 1 makes it 1: 19 steps are left.
    assert left.after(31, {"step": 1.0}) == "  19 s left"


def test_validations_and_saves_to_come_count_once_they_are_known():
    left = TimeLeft(steps=10, test_freq=4, save_freq=5)
    assert left.after(3, {"step": 2.0}) == "  14 s left"  # 7 x 2
    # Validations at 8 and, the last step, 10: 6 x 2 + 2 x 7.
    assert left.after(4, {"step": 2.0, "testing": 7.0}) == "  26 s left"
    # Step 5 took 2 s without its save; saves: at 10 alone. 5 x 2 + 2 x 7 + 1 x 4.
    assert left.after(5, {"step": 6.0, "save_checkpoint": 4.0}) == "  28 s left"
    # After step 8: 2 x 2 + 1 x 7 + 1 x 4.
    assert left.after(8, {"step": 2.0}) == "  15 s left"


def test_what_the_validation_before_training_took_is_known_at_the_first_step():
    left = TimeLeft(steps=3, test_freq=3)
    left.took["testing"] = 10.0
    assert left.after(1, {"step": 1.0}) == "  12 s left"  # 2 x 1 + 10


def test_a_run_without_validations_waits_for_none():
    left = TimeLeft(steps=3, test_freq=-1)
    left.took["testing"] = 10.0
    assert left.after(1, {"step": 1.0}) == "  2 s left"


def test_nothing_is_left_after_the_last_step():
    assert TimeLeft(steps=2).after(2, {"step": 1.0}) == ""


@pytest.mark.parametrize(
    "seconds, shown", [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (170, "3 min"), (5399, "90 min"), (5400, "1.5 h")]
)
def test_durations(seconds, shown):
    assert duration(seconds) == shown
