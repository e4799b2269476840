"""From ``vaopd.method`` to the method: a file of ``methods/``, or ``pkg://module:Class`` anywhere."""

import inspect
from functools import cache
from importlib import import_module
from pathlib import Path

from verl_vaopd.methods.interface.method import Method
from verl_vaopd.settings.config import VAOPDConfig

ROOM = "verl_vaopd.methods"
OUTSIDE = "pkg://"


def method_names() -> list[str]:
    """The methods that this package has, sorted: the files of ``methods/``."""
    return sorted(path.stem for path in Path(__file__).parents[1].glob("*.py") if path.stem != "__init__")


@cache
def method_class(name: str) -> type[Method]:
    """The class that ``vaopd.method`` names.

    Raises:
        ValueError: no such method; or ``pkg://module:Class`` whose module cannot be imported, whose name is not in
            it, or that is no complete :class:`Method`.
    """
    if name in method_names():
        module = import_module(f"{ROOM}.{name}")
        own = [each for each in vars(module).values() if _is_method(each) and each.__module__ == module.__name__]
        if len(own) != 1:
            raise TypeError(f"{module.__file__} must hold one Method, it holds {len(own)}")
        return own[0]
    if not name.startswith(OUTSIDE):
        known = ", ".join(method_names())
        raise ValueError(
            f"vaopd.method={name!r}: must be one of {known}, or pkg://module:Class of a method of your own"
        )
    return _outside(name)


def _outside(name: str) -> type[Method]:
    module_name, colon, attribute = name.removeprefix(OUTSIDE).partition(":")
    if not (module_name and colon and attribute):
        raise ValueError(f"vaopd.method={name!r}: must read pkg://module:Class")
    try:
        module = import_module(module_name)
    except ImportError as error:
        raise ValueError(
            f"vaopd.method={name!r}: the module cannot be imported ({error}); put its folder on PYTHONPATH, everywhere"
        ) from error
    found = getattr(module, attribute, None)
    if found is None:
        raise ValueError(f"vaopd.method={name!r}: {module.__file__} holds no {attribute}")
    if not _is_method(found):
        raise ValueError(f"vaopd.method={name!r}: must be a subclass of verl_vaopd.methods.Method, not {found!r}")
    lacks = sorted(found.__abstractmethods__)
    if not isinstance(getattr(found, "title", None), str):
        lacks.append("title")
    if lacks:
        raise ValueError(f"vaopd.method={name!r}: the class lacks {', '.join(lacks)} (docs/methods.md)")
    return found


def _is_method(found) -> bool:
    return inspect.isclass(found) and issubclass(found, Method)


def method_of(settings: VAOPDConfig) -> Method:
    """The method of a run.

    Raises:
        ValueError: as :func:`method_class`.
    """
    return method_class(settings.method)(settings)
