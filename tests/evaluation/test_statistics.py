import numpy as np
import pytest

from verl_vaopd.evaluation.parts import Part
from verl_vaopd.evaluation.statistics import average, bootstrap, score


def part(values, groups=None, name="accuracy"):
    values = np.atleast_2d(np.asarray(values, dtype=float))
    return Part(name, tuple(groups or map(str, range(values.shape[1]))), values)


def test_deviation_is_over_passes():
    # passes 25, 50, 75: mean 50, squared deviations 625 + 0 + 625 over 2
    value = score([part([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]])])
    assert value.value == 50 and value.std == pytest.approx(25)
    assert score([part([[1, 0]])]).std is None


def test_a_questions_samples_stay_together():
    """Questions that are right in all passes or in none: the passes add no information.

    Of n = 100 questions half are right; the bootstrap's standard deviation is 100 sqrt(1/4 / n) = 5 points with one
    pass or with eight. Pooled as 800 answers it would be 1.8.
    """
    one = [[1] * 50 + [0] * 50]
    for passes in (1, 8):
        assert bootstrap([part(one * passes)]).std() == pytest.approx(5, rel=0.1)


def test_groups_are_drawn_whole():
    """10 groups of 10 equal questions are 10 independent things: 100 sqrt(1/4 / 10) = 15.8 points, not 5."""
    groups = [f"g{n // 10}" for n in range(100)]
    assert bootstrap([part([[1] * 50 + [0] * 50], groups)]).std() == pytest.approx(15.8, rel=0.1)


def test_parts_share_the_draw():
    """Two parts with opposite values over the same groups: their mean never moves."""
    draws = bootstrap([part([[1, 1, 0, 0]], "abcd"), part([[0, 0, 1, 1]], "abcd", "other")])
    np.testing.assert_allclose(draws, 50)


def test_interval_covers_the_truth():
    """Of 200 samples of a coin of 0.3, 40 questions each, about 95% of the intervals hold 30."""
    generator = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        low, high = score([part(generator.random((1, 40)) < 0.3)]).interval
        held += low <= 30 <= high
    assert 0.88 < held / 200 <= 1


def test_a_part_with_few_groups_may_be_absent_from_a_draw():
    rare = part([[1]], ["a"], "rare")
    draws = bootstrap([part([[1, 0, 0, 0]], "abcd"), rare])
    assert np.isnan(draws).any() and not np.isnan(score([part([[1, 0, 0, 0]], "abcd"), rare]).interval).any()


def test_average_is_unweighted_and_draws_benchmarks_apart():
    """Benchmarks of deviation 5 and 5 average to 5 / sqrt(2) = 3.5; drawn together it would stay 5."""
    half = score([part([[1] * 50 + [0] * 50])])
    both = average([half, half])
    assert both.value == 50
    assert both.draws.std() == pytest.approx(5 / 2**0.5, rel=0.1)


def test_nothing_to_score():
    with pytest.raises(ValueError, match="nothing"):
        score([])
