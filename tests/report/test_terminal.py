"""Laws of dietjax.report.terminal: whatever the width, every cell is printed whole."""

import pytest

from dietjax.report import terminal

HEADER = ("synapse", "MACs", "spikes per neuron", "ANN µJ")
ROWS = [("conv1 (first)", f"{123456789:,}", 1.625, "0.5679"), ("a-name-without-any-place-to-break", 7, "[bold]", "-")]


@pytest.fixture
def shown(capsys, monkeypatch):
    def show(columns):
        monkeypatch.setenv("COLUMNS", str(columns))
        terminal.print_table("a title that is longer than 20 columns", HEADER, ROWS, right=(1, 2, 3))
        return capsys.readouterr().out

    return show


@pytest.mark.parametrize("columns", [1, 20, 40, 60, 79, 80, 81, 95, 120])
def test_every_cell_is_printed_whole_at_any_width(shown, columns):
    out = shown(columns)
    assert out.startswith("a title that is longer than 20 columns\n") and "…" not in out
    assert all(str(cell) in out for row in ROWS for cell in row)
    assert all(word in out for name in HEADER for word in name.split())


@pytest.mark.parametrize("columns", [80, 81, 95, 120])
def test_a_table_that_fits_has_no_line_beyond_the_edge(shown, columns):
    _, *lines = shown(columns).splitlines()
    assert max(map(len, lines)) <= columns and any("┃" in line for line in lines)


def test_where_it_does_not_fit_a_row_is_a_value_a_line(shown):
    assert shown(40).splitlines()[1:5] == [
        "synapse            conv1 (first)", "MACs               123,456,789", "spikes per neuron  1.625",
        "ANN µJ             0.5679"]


def test_a_pipe_has_no_edge(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    terminal.print_table("wide", [f"column{i}" for i in range(50)], [range(50)], right=())
    assert "column49" in capsys.readouterr().out.splitlines()[2]


def test_no_row_is_a_table_of_its_heading(shown, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    terminal.print_table("none", ("margin", "accuracy"), [], right=())
    assert "margin" in capsys.readouterr().out
