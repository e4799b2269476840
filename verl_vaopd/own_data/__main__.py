"""``verl-vaopd data``: rows of your own, as ``convert``; the data sets that are known by name are in ``data/``."""

import sys
from collections.abc import Sequence

from verl_vaopd.data import __main__ as known_by_name
from verl_vaopd.own_data import convert


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes of both: 0 written or verified, 1 bad rows or another failure, 2 bad usage or no such source, 130."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return convert.main(arguments[1:]) if arguments[:1] == ["convert"] else known_by_name.main(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
