"""The plan of the house: its rooms, as the contract and the page tell them; how long its functions and files are."""

import house
import pytest

# FILE or FILE:FUNCTION -> why it may be longer than the house allows. Shorten one: take it off the list.
LONG_FUNCTIONS: dict[str, str] = {}
LONG_FILES: dict[str, str] = {
    name: "laws of one file of the source; to be split by concept"
    for name in ("tests/models/test_models.py", "tests/bench/test_bench.py", "tests/checkpoint/test_checkpoint.py",
                 "tests/run/test_recipe.py", "tests/data/test_data.py", "tests/report/test_report.py",
                 "tests/core/test_neurons.py", "tests/train/test_train.py", "tests/cli/test_cli.py")
}


def test_the_contract_and_the_page_tell_the_same_ladder():
    page = (house.PROJECT / "docs/architecture.md").read_text(encoding="utf-8")
    assert house.rooms_in_page(page) == house.rooms_in_contract()


def test_every_room_of_the_source_is_on_the_ladder():
    assert house.rooms_in_source() == set(house.rooms_in_contract())


def test_the_rooms_of_a_page_are_the_first_words_of_its_block():
    page = """# A house
    ```
    no rooms/ here
    ```
## Rooms: from the ground
Some words.
```text
errors.py      InputError, files.py is not meant
types.py, files.py   more than one
core/          what a user composes: surrogate.py neurons/
  losses.py    inside core
models/        linen
```
## Another heading
```
cli/
```
"""
    assert house.rooms_in_page(page) == ["errors", "types", "files", "core", "models"]
    with pytest.raises(ValueError, match="no fenced block"):
        house.rooms_in_page("## Rooms\nwithout a block\n## Another heading\n```\ncli/\n```\n")


def test_the_counts_count(tmp_path):
    """A function's lines are those from its `def` to its end, in classes and functions too; a file's are all."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src/a.py").write_text('"""A."""\n\n\nclass A:\n    def long(self):\n        def inner():\n'
                                       '            return 1\n\n        return inner\n')
    assert house.functions(tmp_path) == [(5, "src/a.py:long"), (2, "src/a.py:inner")]
    assert house.files(tmp_path) == [(9, "src/a.py")]


@pytest.mark.parametrize(("found", "limit", "excused"), [
    (house.functions(), house.LONGEST_FUNCTION, LONG_FUNCTIONS), (house.files(), house.LONGEST_FILE, LONG_FILES)],
    ids=["functions", "files"])
def test_functions_fit_on_a_screen_and_files_hold_one_concept(found, limit, excused):
    long = {length.what: length.lines for length in found if length.lines > limit}
    assert long.keys() - excused.keys() == set(), f"longer than {limit} lines: {long}; split them by concept"
    assert excused.keys() - long.keys() == set(), f"no longer over {limit} lines: take them off the list"
