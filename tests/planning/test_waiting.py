"""How long a step waits for its rollouts: small cases by hand, a decoding step a second."""

from itertools import islice

import numpy as np
import pytest

from verl_vaopd.planning import waiting
from verl_vaopd.planning.waiting import Mode, Simulation, forecast


class Second:
    """A replica whose every decoding step takes a second, prefill none; prompts of 10 tokens."""

    prompt_tokens = 10

    def decoding(self, left, written):
        return np.arange(1.0, left.max() + 1)

    def prefill(self, prompts, written):
        return 0.0


def simulation(mode, *lengths, prompts=1, replicas=1):
    """Groups of these lengths, one after the other."""
    given = iter(lengths)

    def draw(generator, count, rollouts):
        return np.array([next(given) for _ in range(count)])

    generator = np.random.default_rng(0)
    return Simulation(Second(), replicas, prompts, len(lengths[0]), draw, mode, generator)


def waits(mode, *lengths, steps, **more):
    return list(islice(simulation(mode, *lengths, **more).waits(), steps))


def test_sync_waits_for_the_longest_of_every_batch():
    # Two replicas, four sequences: two on each, and whichever holds the 7 or the 9 ends last.
    first, second = waits(Mode(), (3, 7), (2, 5), (1, 1), (9, 4), steps=2, prompts=2, replicas=2)
    assert (first.seconds, first.tokens, first.batch) == (7, 17, 2)
    assert (second.seconds, second.tokens) == (9, 15)
    assert first.lag == second.stale == second.again == second.thrown == 0


def test_partial_rollouts_take_what_ends_first_and_go_on():
    first, second, third = waits(Mode(warmup=1), (5,), (2,), (4,), (6,), steps=3)
    # Step 1: of 5 and 2 the second ends after 2 s; the first has 2 of 5.
    assert (first.seconds, first.tokens, first.lag, first.again) == (2, 2, 0, 0)
    # Step 2: its other 3, before the new one of 4. 2 of 5 tokens are one update old; 10 + 2 are prefilled again.
    assert (second.seconds, second.tokens, second.lag, second.stale, second.oldest) == (3, 5, 2, 2, 1)
    assert second.again == 12
    # Step 3: the last of 4, three of which are of step 2.
    assert (third.seconds, third.lag, third.stale, third.again) == (1, 3, 3, 13)


def test_a_group_is_taken_whole_or_not_at_all():
    (wait,) = waits(Mode(warmup=1), (1, 6), (2, 3), steps=1)
    assert (wait.seconds, wait.tokens) == (3, 5)


def test_waiting_holds_the_step_for_groups_at_the_bound():
    lengths = (9,), (2,), (1,), (4,)
    assert [wait.seconds for wait in waits(Mode(warmup=1), *lengths, steps=2)] == [2, 1]
    # Step 2 waits for the 7 tokens that the first lacks and takes it, the oldest; step 3 finds one that has ended.
    bounded = waits(Mode(warmup=1, threshold=2), *lengths, steps=3)
    assert [wait.seconds for wait in bounded] == [2, 7, 0]
    assert [wait.tokens for wait in bounded] == [2, 9, 1] and bounded[2].oldest == 1


def test_dropping_throws_away_what_ends_too_late_and_adds_another():
    # Step 2: the first ends after 7 s, in its second step: 9 tokens away, 3 begin. The 8 of step 2 end before them.
    first, second = waits(Mode(warmup=1, threshold=1, drop=True), (9,), (2,), (8,), (3,), steps=2)
    assert (first.seconds, first.thrown) == (2, 0)
    assert (second.seconds, second.tokens, second.thrown, second.oldest) == (8, 8, 9, 0)


def test_a_forecast_is_the_mean_of_steps_that_are_usual():
    lengths = [(4,), (6,)] * 200
    told = forecast(simulation(Mode(), *lengths))
    assert (told.seconds, told.staleness, told.stale_share, told.batch) == (5, 0, 0, 1)


def test_a_step_of_many_answers_is_simulated_fewer_times(monkeypatch):
    monkeypatch.setattr(waiting, "ANSWERS", 100)
    many = simulation(Mode(), *[(2, 2, 2, 2)] * 30)
    assert forecast(many).seconds == 2 and many.step == 30  # 20, and 10 that count: 100 / 4 - 20 is less
    with pytest.raises(ValueError, match="20,000 answers on their way have no plan, at most 16,384"):
        forecast(simulation(Mode(1), np.full(1000, 2), prompts=10))
    with pytest.raises(ValueError, match="num_warmup_batches=21 has no plan: at most 20"):
        forecast(simulation(Mode(21), (4,)))


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        (Mode(), "sync"),
        (Mode(0, 4), "colocate_async, 0 warm-up, wait at 4"),
        (Mode(2), "colocate_async, 2 warm-up, no bound"),
        (Mode(1, 4), "colocate_async, 1 warm-up, wait at 4"),
        (Mode(1.5, 8, True), "colocate_async, 1.5 warm-up, drop at 8"),
    ],
)
def test_a_mode_says_what_it_is(mode, says):
    assert str(mode) == says
