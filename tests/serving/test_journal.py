from verl_vaopd.serving.journal import Journal


def test_a_torn_line_is_cut_off(tmp_path):
    path = tmp_path / "a.jsonl"
    journal = Journal(path)
    journal.append({"key": "1", "prediction": "one"})
    journal.close()
    with open(path, "ab") as file:
        file.write(b'{"key": "2", "predi')
    journal = Journal(path)
    assert journal.records == {"1": {"key": "1", "prediction": "one"}}
    journal.append({"key": "3", "prediction": "three\nlines\u2028"})
    assert list(Journal(path).records) == ["1", "3"]
