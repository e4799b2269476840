"""One HTML file that holds everything: figures, tokens with their VA, images. It asks no network for anything."""

import base64
from html import escape
from importlib.resources import files
from string import Template

from verl_vaopd.diagnostics.heat_map import RGB, Problem
from verl_vaopd.diagnostics.table import HEAD


def page(
    intro: str,
    table: list[tuple],
    figures: list[dict],
    problems: list[Problem],
    notes: list[str],
    head: tuple[str, ...] = HEAD,
) -> str:
    """The page's HTML.

    Args:
        figures: name, title, caption, and wide and narrow SVG of each.
        problems: of the heat map, shown token by token; [] leaves it out.
        notes: what is left out and why, and other things to know.
    """
    template = Template(files(__package__).joinpath("page.html").read_text())
    head = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>\n" for row in table)
    return template.substitute(
        intro=escape(intro),
        table=f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>",
        figures="".join(map(_figure, figures)),
        problems=_heat_map(problems),
        notes="".join(f"<li>{escape(note)}</li>" for note in notes),
    )


def data_uri(data: bytes, kind: str) -> str:
    """A file inside an address."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _figure(figure: dict) -> str:
    return (
        f'<figure id="{figure["name"]}"><h2>{escape(figure["title"])}</h2>\n<picture>'
        f'<source media="(max-width: 640px)" srcset="{data_uri(figure["narrow"], "svg+xml")}">'
        f'<img class="chart" src="{data_uri(figure["wide"], "svg+xml")}" alt="{escape(figure["caption"])}"></picture>'
        f"<figcaption>{escape(figure['caption'])}</figcaption></figure>\n"
    )


def _heat_map(problems: list[Problem]) -> str:
    if not problems:
        return ""
    cards = "".join(map(_problem, problems))
    return (
        '<section id="heat_map"><h2>Token by token</h2>\n<p>Held-out problems as several students answer them. The '
        "darker a token, the higher its visual advantage, which the teacher scores; point at one, or tap it, for the "
        f"number. Full colour is a problem's highest VA.</p>\n{cards}</section>\n"
    )


def _problem(problem: Problem) -> str:
    readings = "".join(
        f'<h3>{escape(reading.label)} <span class="{"right" if reading.is_right else "wrong"}">'
        f'{"right" if reading.is_right else "wrong"}</span></h3>\n<p class="tokens">'
        + "".join(_token(text, va, problem.highest) for text, va in zip(reading.tokens, reading.va, strict=True))
        + "</p>\n"
        for reading in problem.readings
    )
    image = data_uri(problem.image.read_bytes(), "webp")
    return (
        f'<article class="problem"><div class="seen"><img src="{image}" alt="image of the problem">'
        f"<p>{escape(problem.question)}</p></div>\n<div>{readings}</div></article>\n"
    )


def _token(text: str, va: float, highest: float) -> str:
    red, green, blue = RGB
    colour = f' style="background:rgba({red},{green},{blue},{va / highest:.3f})"' if va > 0.005 * highest else ""
    return f'<span class="t" data-va="{va:.3f}"{colour}>{escape(text)}</span>'
