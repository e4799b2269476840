import pytest

from verl_vaopd.runlog.phases import Phases, read_phase


def test_a_step_may_take_a_multiple_of_the_median_and_all_else_a_fixed_time(tmp_path):
    assert read_phase(str(tmp_path)) is None
    phases = Phases(str(tmp_path), factor=10, limit_s=600)
    phases.begin("start-up")
    assert read_phase(str(tmp_path))["limit_s"] == 600
    for seconds in (2.0, 9.0, 4.0):
        phases.begin("step", of_a_step=True)
        assert read_phase(str(tmp_path))["limit_s"] == 600  # fewer than three steps are known
        phases.step_took(seconds)
    phases.begin("step 4", of_a_step=True)
    first = read_phase(str(tmp_path))
    assert first["limit_s"] == 40.0  # 10 x the median of 2, 9, 4
    assert "vaopd.hang_factor" in first["why"]
    phases.enter("sampling")
    second = read_phase(str(tmp_path))
    assert (second["what"], second["phase"], second["stretch"]) == ("step 4", "sampling", first["stretch"])
    phases.begin("validation")
    third = read_phase(str(tmp_path))
    assert third["limit_s"] == 600 and third["stretch"] != first["stretch"] and third["why"] == "vaopd.hang_limit"


def test_fast_steps_get_a_second_each_at_least(tmp_path):
    phases = Phases(str(tmp_path), factor=10, limit_s=600)
    for _ in range(3):
        phases.step_took(0.01)
    phases.begin("step 4", of_a_step=True)
    assert read_phase(str(tmp_path))["limit_s"] == 10.0


@pytest.mark.parametrize("of_a_step", [True, False])
def test_null_is_any_time(tmp_path, of_a_step):
    phases = Phases(str(tmp_path), factor=None, limit_s=None)
    for _ in range(3):
        phases.step_took(1.0)
    phases.begin("x", of_a_step=of_a_step)
    assert read_phase(str(tmp_path))["limit_s"] is None
