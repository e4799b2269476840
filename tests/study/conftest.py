"""What tests of the study share."""

import pytest

from verl_vaopd.tiny.__main__ import main as tiny


@pytest.fixture(scope="package")
def models(tmp_path_factory):
    """Untrained models and a few rows of the diluted task."""
    folder = tmp_path_factory.mktemp("dilution")
    assert tiny(["--task", "dilution", "--output", str(folder), "--random"]) == 0
    return folder
