"""Files of JSON lines, whatever stands in a record."""

import json

import pytest

from verl_vaopd.runlog.json_lines import read_json_lines
from verl_vaopd.runlog.run_log import RunLog
from verl_vaopd.serving.journal import Journal

RECORDS = [{"key": "a", "text": "one\u2028two\u2029three\u0085four\x0bfive"}, {"key": "b", "text": "x"}]


def lines(records) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def test_a_line_ends_at_the_newline_alone(tmp_path):
    (tmp_path / "a.jsonl").write_text(lines(RECORDS))
    assert read_json_lines(tmp_path / "a.jsonl") == RECORDS
    assert Journal(tmp_path / "a.jsonl").records == {record["key"]: record for record in RECORDS}


def test_an_unfinished_last_line_is_left_out_where_that_is_asked_for(tmp_path):
    (tmp_path / "a.jsonl").write_text(lines(RECORDS) + '{"key": "c"')
    assert read_json_lines(tmp_path / "a.jsonl", torn_end=True) == RECORDS
    with pytest.raises(ValueError, match=r"a\.jsonl, line 3, is damaged"):
        read_json_lines(tmp_path / "a.jsonl")
    (tmp_path / "a.jsonl").write_text(lines(RECORDS).rstrip("\n"))  # an editor's file
    assert read_json_lines(tmp_path / "a.jsonl") == RECORDS


def test_a_damaged_line_is_named_and_resuming_goes_on_from_the_checkpoint(tmp_path):
    log, checkpoint = RunLog(str(tmp_path / "run")), tmp_path / "run" / "checkpoints" / "global_step_2"
    checkpoint.mkdir(parents=True)
    for step in (1, 2):
        log.metrics({"step": step, "loss": 0.5})
    log.save_to(str(checkpoint), {"step": 3, "loss": 0.25})
    good = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    (tmp_path / "run" / "metrics.jsonl").write_bytes(good[: good.index(b"\n") + 1] + bytes(20) + b"\n" + good)
    with pytest.raises(ValueError, match=r"run/metrics\.jsonl, line 2, is damaged"):
        log.read()
    log.restore_from(str(checkpoint))
    assert [record["step"] for record in log.read()] == [1, 2, 3]
    assert (tmp_path / "run" / "metrics.jsonl.damaged").exists()
    assert "line 2, is damaged" in (tmp_path / "run" / "progress.log").read_text()
