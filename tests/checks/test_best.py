import pytest
from omegaconf import OmegaConf

from verl_vaopd.checks.best import said_of_best


@pytest.mark.parametrize(
    ("test", "save", "steps", "said"),
    [
        (20, 20, 80, None),
        (20, 10, 80, None),  # every validated step is saved
        (-1, 20, 80, None),
        (15, 20, None, "validated and saved every 60 steps and at the last"),
        (15, 20, 61, "every 60 steps"),
        (15, 20, 60, "at the last step only"),
        (10, 20, 80, "every 20 steps"),  # steps 10 and 30 are validated for nothing
        (20, -1, 80, "no student is kept"),
    ],
)
def test_validations_that_cannot_choose_a_student_are_said(test, save, steps, said):
    trainer = {"test_freq": test, "save_freq": save, "total_training_steps": steps, "val_only": False}
    lines = said_of_best(OmegaConf.create({"trainer": trainer}))
    assert [said in line for line in lines] == ([] if said is None else [True])
    assert not said_of_best(OmegaConf.create({"trainer": trainer | {"val_only": True}}))
