"""docs/hostile.md: every hostile case of the tests is on it, with what is expected of it."""

import pathlib

import hostile
import pytest

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "hostile.md"


@pytest.mark.slow
def test_the_page_has_every_case_and_no_other():
    """What is obtained is tested where the case is: the words of errors of others differ between versions of Python."""
    listed = [line.split(" | ")[:2] for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    listed = [cells for cells in listed if cells != ["| case", "expected"]]
    cases = [case for table in hostile.tables().values() for case in table]
    assert len(cases) >= 120
    assert listed == [hostile.row(case, "").split(" | ")[:2] for case in cases], \
        "python tests/helpers/hostile.py > docs/hostile.md"


def test_a_folder_s_name_is_on_no_page(tmp_path):
    case = hostile.Case("a folder", lambda folder: f"{folder}/a.png of {folder.name}", ("taken",))
    assert hostile.obtained(case, tmp_path) == "taken: PATH/a.png of PATH"
