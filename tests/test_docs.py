"""The pictures of docs/ are what their scripts draw."""

import pathlib
import re
import runpy
import xml.etree.ElementTree

import pytest

DOCS = pathlib.Path(__file__).parents[1] / "docs"


def test_the_picture_of_the_rooms_shows_those_that_the_document_lists():
    script = runpy.run_path(str(DOCS / "draw_rooms.py"))
    found = script["rooms"]((DOCS / "architecture.md").read_text("utf-8"))
    assert (DOCS / "rooms.svg").read_text("utf-8") == script["picture"](found), "run: python docs/draw_rooms.py"
    assert {room for room, _ in script["WAY"]} <= set(found)


def test_the_picture_of_the_demo_draws_every_layer_and_is_whole_whatever_the_names():
    layers = [{"name": f"conv{i} <&>", "ann_joules": 1e-6 * i, "snn_joules": 1e-7 * i} for i in (1, 2, 3)]
    summary = {"model": "<VGG6>", "dataset": "digits", "ann": {"accuracy": 0.9},
               "converted": {"accuracy_by_timestep": [0.5, 0.6]}, "snn": {"accuracy_by_timestep": [0.7, 0.8]},
               "energy": {"ratio": 10.04, "layers": layers}}
    svg = runpy.run_path(str(DOCS / "draw_demo.py"))["picture"](summary)
    texts = [text.text for text in xml.etree.ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert "<VGG6> on digits: accuracy after each timestep" in texts
    assert "Energy per image: 10.0 times less than the ANN's" in texts
    assert [text for text in texts if text and re.match(r"conv\d", text)] == [layer["name"] for layer in layers]


@pytest.mark.parametrize("name", ["demo.svg", "rooms.svg"])
def test_pictures_are_readable_in_light_and_dark(name):
    """A background of their own and both sets of colours; nothing is loaded from elsewhere."""
    svg = (DOCS / name).read_text("utf-8")
    assert "prefers-color-scheme: dark" in svg and "var(--card)" in svg
    assert not re.search(r'(?:href|src)="(?!#)', svg)
    variables = set(re.findall(r"var\((--\w+)\)", svg))
    light, dark = re.findall(r":root \{([^}]*)\}", svg)
    assert variables and all(f"{name}:" in light and f"{name}:" in dark for name in variables)
