"""The house's rules: order of the rooms, their sizes, what is said of them."""

import re
import sys

from tests.test_repository import BIN, ROOT, check, tracked_files
from verl_vaopd.methods import method_names

PACKAGE = ROOT / "verl_vaopd"


def test_a_room_imports_from_rooms_below_it_only():
    check(BIN / "lint-imports", "--no-cache")


def test_no_room_is_a_hall_and_no_file_holds_two_ideas():
    files = [path for path in tracked_files() if path.suffix == ".py" and PACKAGE in path.parents]
    lines = {path: len(path.read_text().splitlines()) for path in files}
    assert {str(path.relative_to(ROOT)): n for path, n in lines.items() if n > 350} == {}
    rooms: dict[str, int] = {}
    for path, count in lines.items():
        room = path.relative_to(PACKAGE).parts[0]
        rooms[room] = rooms.get(room, 0) + count
    assert {room: n for room, n in rooms.items() if n > 1500} == {}


def test_no_code_outside_methods_compares_a_methods_name():
    names = "|".join(method_names())
    compares = re.compile(rf"""(==|!=|\bin\b|\bcase\b)\s*[\(\[{{]?\s*["']({names})["']|["']({names})["']\s*(==|!=)""")
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for folder in ("verl_vaopd", "benchmarks", "scripts")
        for path in tracked_files()
        if path.suffix == ".py" and ROOT / folder in path.parents and PACKAGE / "methods" not in path.parents
        for line in path.read_text().splitlines()
        if compares.search(line)
    ]
    assert found == []


def test_the_picture_of_the_rooms_is_that_of_the_code():
    check(sys.executable, "scripts/draw_rooms.py", "--check")


def test_the_page_of_settings_is_that_of_the_code():
    check(sys.executable, "scripts/settings_page.py", "--check")


def test_tests_mirror_the_rooms():
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")} - {"config"}
    tested = {path.parent.name for path in (ROOT / "tests").glob("*/__init__.py")}
    assert rooms - tested == set()


def test_every_room_is_in_the_readmes_tree():
    tree = (ROOT / "README.md").read_text().split("## Where things are")[1]
    for path in PACKAGE.glob("*/__init__.py"):
        assert f"  {path.parent.name}/ " in tree, path.parent.name


def test_docs_name_files_that_are_there():
    """`room/file.py` in a page is a file of the package, or of tests."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for page in pages:
        for name in re.findall(r"`((?:[a-z0-9_]+/)+[a-z0-9_]+\.py)\b", page.read_text()):
            assert (PACKAGE / name).exists() or (ROOT / name).exists(), f"{page.name}: {name}"
