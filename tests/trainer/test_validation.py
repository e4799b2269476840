"""Accuracy on held-out problems, from the host's figures."""

import pytest

from verl_vaopd.trainer.validation import accuracies


def test_accuracy_is_the_mean_over_problems_not_over_sources():
    host = {"val-core/a/acc/mean@8": 1.0, "val-core/b/x/acc/mean@8": 0.0, "val-core/a/acc/best@8/mean": 1.0}
    found = accuracies(host, {"a": 200, "b/x": 1})
    assert found["val/accuracy"] == pytest.approx(200 / 201)  # a mean over sources would be 1/2
    assert found["val/accuracy/a"] == 1.0 and found["val/accuracy/b/x"] == 0.0


def test_one_source_has_one_figure():
    assert accuracies({"val-core/a/acc/mean@1": 0.25}, {"a": 4}) == {"val/accuracy": 0.25}
