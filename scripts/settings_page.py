"""Writes docs/settings.md: every setting of section ``vaopd``, from the dataclasses and what stands under their fields.

    .venv/bin/python scripts/settings_page.py [--check]

``--check`` writes nothing and ends with 1 if the page is not that of the code.
"""

import argparse
import ast
import dataclasses
import inspect
import re
import sys
from pathlib import Path

import yaml

from verl_vaopd.settings.config import VAOPDConfig
from verl_vaopd.settings.of_methods import GKDConfig, MassConfig, PAPOConfig
from verl_vaopd.settings.of_verl import REFUSED
from verl_vaopd.settings.teacher import TeacherConfig

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "settings.md"
SECTIONS = (
    ("vaopd", VAOPDConfig),
    ("vaopd.teacher", TeacherConfig),
    ("vaopd.gkd", GKDConfig),
    ("vaopd.mass", MassConfig),
    ("vaopd.papo", PAPOConfig),
)
CONFIGS = {"GPU": "vaopd_trainer.yaml", "demo": "tiny_cpu.yaml"}
BEGIN, END = "<!-- {}: made by scripts/settings_page.py -->", "<!-- end of {} -->"


def meanings(section: type) -> dict[str, str]:
    """Field -> the text under it in the class's source."""
    body = ast.parse(inspect.getsource(section)).body[0].body
    found = {}
    for field, text in zip(body, body[1:], strict=False):
        documents = isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
        if isinstance(field, ast.AnnAssign) and documents:
            found[field.target.id] = re.sub(r"\s+", " ", text.value.value).replace("``", "`")
    return found


def rows(section: type, configs: dict[str, dict]) -> list[tuple[str, str, str, str]]:
    """(name, type, default, meaning) of every field that is no section itself.

    Args:
        configs: what the shipped YAML files set in this section, by a word for the file.
    Raises:
        ValueError: a field without a text under it.
    """
    texts, found = meanings(section), []
    for field in dataclasses.fields(section):
        if dataclasses.is_dataclass(field.type):
            continue
        if field.name not in texts:
            raise ValueError(f"{section.__name__}.{field.name} has no text under it")
        kind = field.type.__name__ if inspect.isclass(field.type) else str(field.type).replace("typing.", "")
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        value = field.default_factory() if field.default is dataclasses.MISSING and not required else field.default
        default = "required" if required else f"`{shown(value)}`"
        for name, config in configs.items():
            other = config.get(field.name, value)
            if isinstance(value, float) and isinstance(other, str) and not interpolated(other):
                other = float(other)  # YAML takes 1e-6 for text
            if not required and not interpolated(other) and other != value:
                default += f"; {name} `{shown(other)}`"
        found.append((field.name, kind.replace("|", "or").replace("None", "null"), default, texts[field.name]))
    return found


def shown(value) -> str:
    """As YAML has it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def interpolated(value) -> bool:
    return isinstance(value, str) and ("${" in value or value == "???")


def shipped(name: str) -> dict[str, dict]:
    """What the YAML files set in the section ``name``."""
    found = {}
    for word, file in CONFIGS.items():
        section = yaml.load((ROOT / "verl_vaopd" / "config" / file).read_text(), yaml.BaseLoader)
        for part in name.split("."):
            section = section.get(part, {})
        found[word] = {key: yaml.safe_load(value) for key, value in section.items() if isinstance(value, str)}
    return found


def tables() -> str:
    out = []
    for name, section in SECTIONS:
        configs = shipped(name)
        out += ["", f"### `{name}`", "", "| setting | type | default | meaning |", "|---|---|---|---|"]
        for row in rows(section, configs):
            cells = [cell.replace("|", "\\|") for cell in row]
            out.append(f"| `{cells[0]}` | {cells[1]} | {cells[2]} | {cells[3]} |")
    return "\n".join(out)


def unread() -> str:
    """The settings that nothing follows, those with one reason in one row."""
    reasons: dict[str, list[str]] = {}
    for name, why in REFUSED.items():
        reasons.setdefault(why, []).append(f"`{name}`")
    rows = [f"| {', '.join(names)} | {why} |" for why, names in reasons.items()]
    return "\n".join(["", "| setting | why |", "|---|---|", *rows])


def page() -> str:
    """The page with its tables made anew; what stands around them is written by hand."""
    text = PAGE.read_text()
    for name, made in (("settings", tables()), ("unread", unread())):
        begin, end = BEGIN.format(name), END.format(name)
        before, after = text.split(begin)[0], text.split(end)[1]
        text = f"{before}{begin}\n{made}\n\n{end}{after}"
    return text


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args(argv).check
    made = page()
    if check and PAGE.read_text() != made:
        print(f"{PAGE.relative_to(ROOT)} is not that of the code: python scripts/settings_page.py", file=sys.stderr)
        return 1
    if not check:
        PAGE.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
