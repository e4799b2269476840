"""Draws docs/rooms.svg: the rooms of the package from the top down, and which imports from which.

    .venv/bin/python scripts/draw_rooms.py [--check]

Rooms and arcs are read from the code and from the contract in pyproject.toml. ``--check`` writes nothing and ends with
1 if the picture is not that of the code.
"""

import argparse
import ast
import sys
import tomllib
from html import escape
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "rooms.svg"
PACKAGE = "verl_vaopd"
ROW, LEFT, RIGHT = 34, 16, 760
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")


def rooms_in_order() -> list[str]:
    """From the top down, as the contract has them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [room.strip() for layer in layers for room in layer.split("|")]


def imports_between(rooms: list[str]) -> list[tuple[str, str]]:
    """(importer, imported), sorted."""
    graph, pairs = grimp.build_graph(PACKAGE, cache_dir=None), set()
    for module in graph.modules:
        for other in graph.find_modules_directly_imported_by(module):
            pair = tuple(name.split(".")[1] if "." in name else "" for name in (module, other))
            if pair[0] != pair[1] and set(pair) <= set(rooms):
                pairs.add(pair)
    return sorted(pairs)


def purpose(room: str) -> str:
    """First line of the room's docstring."""
    path = ROOT / PACKAGE / room / "__init__.py"
    path = path if path.exists() else ROOT / PACKAGE / f"{room}.py"
    return ast.get_docstring(ast.parse(path.read_text())).splitlines()[0].replace("``", "")


def text(x: int, y: int, words: str, style: str = "font-size='14'") -> str:
    return f"<text x='{x}' y='{y}' font-family='sans-serif' {style}>{escape(words)}</text>"


def arc(start: int, end: int, colour: str, title: str) -> str:
    """From ``start`` to ``end``: to the right of the rooms if it runs down, to the left and red if it runs up."""
    down = end > start
    side, reach = (RIGHT, 18 + 0.55 * (end - start)) if down else (LEFT, -18 - 0.55 * (start - end))
    bend = f"{side + reach:.0f}"
    return (
        f"<path d='M {side} {start + 3} C {bend} {start + 3}, {bend} {end - 3}, {side} {end - 3}' fill='none' "
        f"stroke='{colour if down else '#d00'}' stroke-width='1.4' opacity='0.65'><title>{title}</title></path>"
    )


def draw() -> str:
    rooms = rooms_in_order()
    height = ROW * len(rooms) + 60
    middle = {room: 44 + ROW * place + ROW // 2 for place, room in enumerate(rooms)}
    rule = "A room imports from rooms below it. An arc runs from the importer down to what it imports."
    out = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='1080' height='{height}' viewBox='0 0 1080 {height}'>",
        f"<rect width='1080' height='{height}' fill='white'/>",
        text(LEFT, 26, rule),
    ]
    for place, room in enumerate(rooms):
        top, shade = middle[room] - ROW // 2 + 3, "#eef3f8" if place % 2 else "#f7f7f4"
        box = f"x='{LEFT}' y='{top}' width='{RIGHT - LEFT}' height='{ROW - 6}' rx='5'"
        out += [
            f"<rect {box} fill='{shade}' stroke='#bbb'/>",
            text(LEFT + 12, top + 19, room, "font-size='14' font-weight='bold'"),
            text(LEFT + 112, top + 19, purpose(room), "font-size='11' fill='#333'"),
        ]
    for importer, imported in imports_between(rooms):
        colour = COLOURS[rooms.index(importer) % len(COLOURS)]
        out.append(arc(middle[importer], middle[imported], colour, f"{importer} imports {imported}"))
    return "\n".join([*out, "</svg>"]) + "\n"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args(argv).check
    drawn = draw()
    if not check:
        PICTURE.write_text(drawn)
        return 0
    if not PICTURE.exists() or PICTURE.read_text() != drawn:
        print(f"{PICTURE.relative_to(ROOT)} is not that of the code: python scripts/draw_rooms.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
