import subprocess
import sys
from pathlib import Path

import verl_vaopd.algorithm as algorithm


def test_imports_torch_numpy_and_pil_only():
    code = (
        "import sys, torch, numpy, PIL.Image; before = set(sys.modules); import verl_vaopd.algorithm; "
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    root = Path(algorithm.__file__).parents[2]
    loaded = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout
    third_party = set(loaded.split()) - set(sys.stdlib_module_names)
    assert third_party <= {"verl_vaopd", "torch", "numpy", "PIL"}


def test_everything_public_is_documented():
    for name in algorithm.__all__:
        assert "Raises:" in getattr(algorithm, name).__doc__ and "Returns:" in getattr(algorithm, name).__doc__, name
