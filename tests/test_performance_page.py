"""The page's tables are what the script makes of the stored results, and each says where and when."""

import json
import pathlib
import runpy

import pytest

from dietjax.errors import InputError

DOCS = pathlib.Path(__file__).parents[1] / "docs"
SCRIPT = runpy.run_path(str(DOCS / "performance.py"))
RESULT = {"rows": [{"what": "copy", "T": 4, "ms": 1234.5, "q25": 1000.0, "q75": 2000.0, "share": None},
                   {"what": "LIF", "T": 4, "ms": 0.04123, "q25": 0.04, "q75": 0.05, "share": 0.8}],
          "command": "dietjax bench neuron",
          "environment": {"device": "1 × abacus", "CPU cores": "2", "date": "2026-11-29"}}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """With RESULT as mine.json; the table "mine" shows it."""
    monkeypatch.setitem(SCRIPT["TABLES"], "mine", SCRIPT["Table"](("mine",), ("what", "ms", "share")))
    (tmp_path / "mine.json").write_text(json.dumps(RESULT))
    return tmp_path


def test_the_page_shows_what_is_stored():
    page = (DOCS / "performance.md").read_text(encoding="utf-8")
    made = SCRIPT["filled"](page, lambda name: SCRIPT["table"](name, DOCS / "measured"))
    assert page == made, "run: python docs/performance.py"


def test_every_stored_result_is_shown_and_tells_of_no_folder():
    shown = {file for table in SCRIPT["TABLES"].values() for file in table.files}
    assert shown == {path.stem for path in (DOCS / "measured").iterdir()}
    for path in (DOCS / "measured").iterdir():
        assert '"/' not in path.read_text(encoding="utf-8"), path


def test_a_table_by_hand(folder):
    assert SCRIPT["table"]("mine", folder) == """
|  | ms (quartiles) | share of the copy's |
| --- | --- | --- |
| copy | 1,234 (1,000–2,000) | – |
| LIF | 0.04123 (0.04–0.05) | 0.8 |

`dietjax bench neuron`: 1 × abacus, cores 2, 2026-11-29.

"""


def test_a_table_of_one_value_over_two(folder, monkeypatch):
    monkeypatch.setitem(SCRIPT["TABLES"], "mine", SCRIPT["Over"](("mine",), ("T", "what"), "ms"))
    assert SCRIPT["table"]("mine", folder).splitlines()[1:4] == [
        "| T | copy | LIF |", "| --- | --- | --- |", "| 4 | 1,234 (1,000–2,000) | 0.04123 (0.04–0.05) |"]


def test_a_result_that_says_too_little_is_named(folder):
    for lacking in ("command", "rows"):
        (folder / "mine.json").write_text(json.dumps(RESULT | {lacking: ""}))
        with pytest.raises(InputError, match=f"mine.json lacks {lacking}: measure again"):
            SCRIPT["table"]("mine", folder)
    (folder / "mine.json").write_text(json.dumps(RESULT | {"environment": {"device": "abacus"}}))
    with pytest.raises(InputError, match=r"mine\.json lacks date"):
        SCRIPT["table"]("mine", folder)
    with pytest.raises(InputError, match=r"there is no .*none\.json"):
        SCRIPT["read"]("none", folder)


def test_marks_that_are_not_those_of_the_tables_are_named():
    page = (DOCS / "performance.md").read_text(encoding="utf-8")
    for broken in ("nothing", page + "<!-- measured: x -->\n<!-- end of x -->\n", page + page):
        with pytest.raises(InputError, match="has marks of"):
            SCRIPT["filled"](broken, str)
