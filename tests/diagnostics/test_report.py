"""From logs as RunLog writes them to six figures, a table and a page that a browser opens."""

import json
import re
import shutil
import xml.etree.ElementTree as ElementTree

import pytest
from PIL import Image

from tests.diagnostics.browser import FOUND, browser
from tests.diagnostics.written_runs import write_run
from verl_vaopd.diagnostics import __main__ as report
from verl_vaopd.diagnostics import ablations, efficiency, heat_map, heavy_tail, masking, va_trajectory
from verl_vaopd.diagnostics.runs import MissingRuns, group_runs, read_run
from verl_vaopd.runlog.run_log import RunLog

pytestmark = pytest.mark.slow

NAMES = ["va_trajectory", "heavy_tail", "masking", "ablations", "efficiency", "heat_map"]
SETTINGS = {
    "opd": (["vaopd.method=opd"], {"gain": 0.30, "va_gain": 0.02}),
    "vaopd": ([], {"gain": 0.40, "va_gain": 0.10}),
    "distribution": (["vaopd.score=distribution"], {"gain": 0.42, "va_gain": 0.12}),
    "weights": (["vaopd.token_grouping=false"], {"gain": 0.33}),
    "groups": (["vaopd.rollout_weighting=false"], {"gain": 0.36}),
    "random": (["vaopd.method=opd", "vaopd.mask_tokens=random"], {"gain": 0.29}),
    "lowest": (["vaopd.method=opd", "vaopd.mask_tokens=lowest_va"], {"gain": 0.30}),
    "highest": (["vaopd.method=opd", "vaopd.mask_tokens=highest_va"], {"gain": 0.05}),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return {
        (name, seed): write_run(folder / f"{name}_{seed}", *settings, seed=seed, **course)
        for name, (settings, course) in SETTINGS.items()
        for seed in (1, 2)
    }


@pytest.fixture(scope="module")
def output(runs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    assert report.main([*map(str, runs.values()), "--output", str(folder)]) == 0
    return folder


def groups_of(*paths):
    return group_runs([read_run(path) for path in paths])


def words(figure) -> list[str]:
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def test_every_figure_is_drawn_as_png_and_svg(output):
    for name in NAMES:
        assert Image.open(output / f"{name}.png").width > 1000
        paths = ElementTree.parse(output / f"{name}.svg").findall(".//{http://www.w3.org/2000/svg}path")
        assert len(paths) > 30
    assert len((output / "table.md").read_text().splitlines()) == 2 + len(SETTINGS)


@pytest.mark.skipif(not FOUND, reason="needs chromium and chromedriver (Debian: chromium, chromium-driver)")
@pytest.mark.parametrize("width, phone", [(1100, False), (390, True)], ids=["desktop", "phone"])
def test_page_in_a_browser(output, runs, width, phone):
    with browser(width, phone=phone) as window:
        window.open((output / "report.html").as_uri())
        charts = window.run("return [...document.images].map(i => [i.className, i.complete, i.naturalWidth])")
        assert len([chart for chart in charts if chart[0] == "chart"]) == 5
        assert all(complete and wide > 0 for _, complete, wide in charts)
        assert window.run("return document.documentElement.scrollWidth <= window.innerWidth")
        narrow = window.run(
            "const i = document.querySelector('#heavy_tail img'); return i.naturalHeight > i.naturalWidth"
        )
        assert narrow == phone  # panels one above the other

        token = "#heat_map .problem:nth-of-type(1) .tokens .t:nth-child(7)"  # a number read off the figure
        assert window.run("return document.getElementById('tip').hidden")
        (window.tap if phone else window.hover)(token)
        shown, va, text, question = window.run(
            "const t = document.querySelector(arguments[0]); const tip = document.getElementById('tip');"
            "return [tip.hidden ? null : tip.textContent, t.dataset.va, t.textContent,"
            "        t.closest('.problem').querySelector('.seen p').textContent]",
            token,
        )
        problem = int(re.search(r"figure (\d+)\. <b>Box</b> it & stop", question)[1])  # shown as text, not as markup
        logged = [json.loads(line) for line in (runs["opd", 1] / "rollouts" / "validation_0.jsonl").open()]
        row = next(row for row in logged if row["id"] == f"geometry/{problem}")
        assert text == row["tokens"][6] and float(va) == pytest.approx(row["va"][6], abs=1e-3)
        assert shown == f"VA {row['va'][6]:.2f} nats"

        assert window.printed().startswith(b"%PDF")
        assert not [entry for entry in window.log("browser") if entry["level"] in ("SEVERE", "WARNING")]
        events = [json.loads(entry["message"])["message"] for entry in window.log("performance")]
        asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
        assert asked and not [url for url in asked if not url.startswith(("file://", "data:"))]


def test_trajectories_end_where_the_logs_do(runs):
    groups = groups_of(*(runs[name, seed] for name in ("opd", "vaopd", "random") for seed in (1, 2)))
    figure = va_trajectory.draw(groups)
    against_step, path = figure.axes
    opd = next(group for group in groups if group.label == "Standard OPD")
    means = [opd.curve(name)[1].mean(axis=0) for name in ("va", "accuracy")]
    assert against_step.lines[0].get_ydata().tolist() == pytest.approx(means[0].tolist())
    drawn = [line.get_xydata().tolist() for line in path.lines]
    assert [pytest.approx(list(pair)) for pair in zip(*means, strict=True)] in drawn
    assert "VA-OPD" in words(figure) and not [text for text in words(figure) if "masked" in text]


def test_share_of_the_top_tenth_by_hand(tmp_path):
    log_run = write_run(tmp_path / "run", "vaopd.method=opd")
    # 20 tokens, 8 nats on the highest two of 10 in all: the top 10% carry 80%
    va = [5.0, 3.0] + [0.5] * 4 + [0.0] * 14
    RunLog(str(log_run)).rollouts(80, [{"va": va[::-1]}], kind="validation")
    assert "Standard OPD  80.0%" in words(heavy_tail.draw(groups_of(log_run)))


def test_masking_labels_tell_the_final_difference(runs):
    groups = groups_of(runs["opd", 1], runs["highest", 1])
    opd, highest = (group.final("accuracy")[1] for group in groups)
    label = next(text for text in words(masking.draw(groups)) if text.startswith("highest-VA 10% masked"))
    assert label == f"highest-VA 10% masked  \N{MINUS SIGN}{100 * (opd - highest):.1f} points"


def test_ablation_bars_are_paired_by_seed(runs):
    groups = groups_of(*(runs[name, seed] for name in ("opd", "vaopd", "weights", "groups") for seed in (1, 2)))
    figure = ablations.draw(groups)
    finals = {group.label: group.final("accuracy") for group in groups}
    for label, bar in zip(reversed([g.label for g in groups][1:]), figure.axes[0].patches, strict=True):
        gain = sum(finals[label][seed] - finals["Standard OPD"][seed] for seed in (1, 2)) / 2
        assert bar.get_width() == pytest.approx(100 * gain)
    assert "VA-OPD, rollout weights only" in words(figure) and "VA-OPD, token groups only" in words(figure)


def accuracy_run(path, *settings, seconds, accuracies):
    """A run validated every 20 steps, with these accuracies."""
    write_run(path, *settings, seconds=seconds)
    log = RunLog(str(path))
    records = log.read()
    (path / "metrics.jsonl").unlink()
    for record in records:
        if "val/accuracy" in record:
            record["val/accuracy"] = accuracies[record["step"] // 20]
        log.metrics(record)
    return path


def test_time_to_reach_by_hand(tmp_path):
    # Standard OPD: 80 steps of 3 s are 4 min, final accuracy 50%. VA-OPD: 6 s a step, 30% at 2 min, 60% at 4 min: 50%
    # at 2 + 2 * 20 / 30 = 3.33 min, 1.2 times as fast. Saving a checkpoint takes 10 s, which are not counted.
    opd = accuracy_run(tmp_path / "a", "vaopd.method=opd", seconds=3.0, accuracies=[0.3, 0.35, 0.4, 0.45, 0.5])
    vaopd = accuracy_run(tmp_path / "b", seconds=6.0, accuracies=[0.3, 0.3, 0.6, 0.6, 0.6])
    drawn = words(efficiency.draw(groups_of(opd, vaopd)))
    assert {"Standard OPD: 4.0 min", "VA-OPD: 3.3 min", "1.2\N{MULTIPLICATION SIGN} faster"} <= set(drawn)
    never = accuracy_run(tmp_path / "c", seconds=6.0, accuracies=[0.3, 0.3, 0.4, 0.4, 0.4])
    assert "VA-OPD: not reached" in words(efficiency.draw(groups_of(opd, never)))
    # A baseline that was at its final 40% after 2 min already is not said to have needed 4.
    early = accuracy_run(tmp_path / "d", "vaopd.method=opd", seconds=3.0, accuracies=[0.3, 0.3, 0.4, 0.5, 0.4])
    assert {"Standard OPD: 2.0 min", "VA-OPD: 2.7 min"} <= set(words(efficiency.draw(groups_of(early, vaopd))))


def test_heat_map_holds_the_same_problem_under_each_checkpoint(runs):
    groups = groups_of(runs["opd", 1], runs["opd", 2], runs["vaopd", 1], runs["random", 1])
    problem = heat_map.problems(groups)[0]
    assert [reading.label for reading in problem.readings] == [
        "before training",
        "Standard OPD, step 80",
        "VA-OPD, step 80",
    ]
    assert not problem.readings[0].is_right and problem.readings[-1].is_right
    assert problem.question.startswith("Add the numbers") and Image.open(problem.image).size == (96, 96)
    alone = heat_map.problems(groups_of(runs["opd", 1]))[0]
    labels = [reading.label for reading in alone.readings]
    assert labels == ["before training", *(f"Standard OPD, step {step}" for step in (40, 60, 80))]


def test_a_long_answer_is_shown_where_its_va_is(tmp_path, runs):
    run = shutil.copytree(runs["opd", 1], tmp_path / "run")
    log = RunLog(str(run))
    row = read_run(run).rollouts(80)[0]
    for step in (0, 40, 60, 80):
        words_said = [f" w{i}" for i in range(400)]
        va = [5.0 if 300 <= i < 305 else 0.0 for i in range(400)]
        log.rollouts(step, [{**row, "tokens": words_said, "va": va}], kind="validation")
    shown = words(heat_map.draw(groups_of(run)))
    assert " w300" in shown and " w304" in shown and " w0" not in shown and len(shown) < 4 * 12 * 20


def test_what_cannot_be_drawn_is_left_out_and_says_what_it_needs(tmp_path, capsys):
    run = write_run(tmp_path / "run", "vaopd.method=opd", "vaopd.degraded_view=false", views=False)
    assert report.main([str(run), "--output", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    page = (tmp_path / "out" / "report.html").read_text()
    for name, need in {
        "va_trajectory": "vaopd.degraded_view=true",
        "heavy_tail": "vaopd.log_validation_rollouts",
        "masking": "vaopd.mask_tokens=random",
        "ablations": "vaopd.token_grouping=false",
        "efficiency": "two methods",
        "heat_map": "vaopd.log_validation_rollouts",
    }.items():
        line = next(line for line in said.splitlines() if line.startswith(f"{name}: left out"))
        assert need in line and not (tmp_path / "out" / f"{name}.png").exists()
    assert page.count("Left out:") == 6 and "Standard OPD" in page
    for draw in (va_trajectory.draw, heavy_tail.draw, heat_map.draw):
        with pytest.raises(MissingRuns):
            draw(groups_of(run))


def keep_validations(path, steps):
    """Leave only these of a run's validations; ``steps`` may name a metric that was not finite."""
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().split("\n") if line]
    for record in lines:
        if record["step"] not in steps:
            for name in [name for name in record if name.startswith("val/")]:
                del record[name]
    (path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in lines))
    return path


@pytest.mark.parametrize("apart", ["opd", "masked"])
def test_seeds_validated_at_different_steps_cost_their_figure_only(apart, tmp_path, capsys):
    settings = {"opd": ["vaopd.method=opd"], "masked": ["vaopd.method=opd", "vaopd.mask_tokens=random"]}
    runs = [write_run(tmp_path / f"{n}{s}", *settings[n], seed=s) for n in settings for s in (1, 2)]
    keep_validations(tmp_path / f"{apart}1", (20, 40))
    keep_validations(tmp_path / f"{apart}2", (60,))
    assert report.main([*map(str, runs), "--output", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "masking: left out; it needs seeds that were validated at the same steps" in said
    page = (tmp_path / "out" / "report.html").read_text()
    label = {"opd": "Standard OPD", "masked": "random 10% masked"}[apart]
    assert "never validated at the same one" in page and label in page
    assert (tmp_path / "out" / "heavy_tail.png").exists() and (tmp_path / "out" / "table.md").exists()


def test_a_variant_without_a_common_step_leaves_the_others_in_the_figure(tmp_path):
    runs = [write_run(tmp_path / "opd", "vaopd.method=opd")]
    for tokens in ("random", "lowest_va"):
        runs += [
            write_run(tmp_path / f"{tokens}{seed}", "vaopd.method=opd", f"vaopd.mask_tokens={tokens}", seed=seed)
            for seed in (1, 2)
        ]
    keep_validations(tmp_path / "random1", (20, 40))
    keep_validations(tmp_path / "random2", (60,))
    shown = " ".join(words(masking.draw(groups_of(*runs))))
    assert "lowest-VA 10% masked" in shown and "random 10% masked" not in shown


def test_what_was_not_finite_is_no_value(tmp_path):
    run = write_run(tmp_path / "run")
    text = (run / "metrics.jsonl").read_text().replace('"val/va/mean": 0', '"val/va/mean": null, "x": 0', 1)
    (run / "metrics.jsonl").write_text(text)
    assert "va" not in read_run(run).columns and len(read_run(run).columns["accuracy"]) == 5


def test_runs_that_do_not_go_together_are_named(runs, tmp_path, capsys):
    copy = shutil.copytree(runs["opd", 1], tmp_path / "copy")
    output = ["--output", str(tmp_path / "out")]
    assert report.main([str(runs["opd", 1]), str(copy), *output]) == 2
    assert "are both 'Standard OPD' with data.seed=1" in capsys.readouterr().err
    assert report.main([str(tmp_path), *output]) == 2
    assert "holds no config.yaml" in capsys.readouterr().err
    (copy / "metrics.jsonl").write_text('{"step": 1, "loss": 1.0}\n')
    assert report.main([str(copy), *output]) == 2
    assert "was never validated" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

    other = write_run(tmp_path / "other", "data.train_batch_size=8", seed=1)
    assert report.main([str(runs["opd", 1]), str(other), *output]) == 0
    assert "differ in more than their method: data.train_batch_size" in (tmp_path / "out" / "report.html").read_text()


def test_a_validation_repeated_after_a_resume_counts_once(tmp_path):
    run = write_run(tmp_path / "run")
    RunLog(str(run)).metrics({"step": 80, "val/accuracy": 0.99})
    read = read_run(run)
    assert read.columns["step"].tolist() == [0, 20, 40, 60, 80] and read.columns["accuracy"][-1] == 0.99


def test_partial_rollouts_are_a_run_of_their_own_with_the_share_of_older_tokens(tmp_path, capsys):
    waits = write_run(tmp_path / "waits", "vaopd.method=opd", seed=1)
    ahead = write_run(tmp_path / "ahead", "vaopd.method=opd", "trainer.v1.trainer_mode=colocate_async", seed=1)
    lines = [json.loads(line) for line in (ahead / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        if line["step"]:
            line["staleness/tokens"] = 0.4 if line["step"] % 2 else 0.2
    (ahead / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert report.main([str(waits), str(ahead), "--output", str(tmp_path / "out")]) == 0
    capsys.readouterr()
    table = (tmp_path / "out" / "table.md").read_text().splitlines()
    assert table[0].endswith("| tokens of older weights |")
    assert table[2].startswith("| Standard OPD |") and table[2].endswith("|  |")
    assert table[3].startswith("| Standard OPD, partial rollouts 2/4 |") and table[3].endswith("| 30% |")
    assert "partial rollouts 2/4" in (tmp_path / "out" / "efficiency.svg").read_text()
    assert report.main([str(waits), "--output", str(tmp_path / "alone")]) == 0
    assert "older" not in (tmp_path / "alone" / "table.md").read_text()
