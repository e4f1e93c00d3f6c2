"""The report: one page, complete in itself, that shows what was recorded and nothing else."""

import ast
import dataclasses
import html
import html.parser
import json
import pathlib
import re

import matplotlib
import numpy as np
import pytest
from invented_run import make_run

from dietjax.config import Data, Experiment, Phase
from dietjax.errors import InputError
from dietjax.report import page as report
from dietjax.report import plots

SECTIONS = (
    "accuracy", "loss", "neurons", "energy", "spikes", "mistakes", "configuration"
)  # fmt: skip


class Page(html.parser.HTMLParser):
    """What a browser would see: tags with their attributes, and the text of each element kind."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def page(run):
    return report.write(run).read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_log_that_was_shortened_is_told_on_the_page(tmp_path):
    run = make_run(tmp_path, layers=3, epochs=2)
    assert "lacks" not in report.write(run).read_text("utf-8")
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:-10]))  # nine of training, one of the last test
    page = report.write(run).read_text("utf-8")
    assert "<li>metrics.jsonl lacks steps 32 to 40 of snn, where the curves have a gap" in page
    (run / "metrics.jsonl").unlink()
    page = report.write(run).read_text("utf-8")
    assert all(f"<li>metrics.jsonl lacks steps 1 to 40 of {phase}, where" in page for phase in ("ann", "snn"))


@pytest.mark.slow
def test_every_setting_is_shown_with_its_default_where_that_is_another(tmp_path):
    """Of an experiment whose settings are the defaults but for four."""
    run = make_run(tmp_path / "run")
    today = Phase(optimizer="sgd", schedule="steps", milestones=(30, 60.5))
    stored = dataclasses.asdict(Experiment("mine", ann=today, data=Data(cutout=8)))
    (run / "config.json").write_text(json.dumps(stored))
    page = report.write(run).read_text(encoding="utf-8").split('<section id="configuration">')[1]
    rows = dict(re.findall(r"<tr><td>([\w.]+)</td><td>(.*?</td><td>.*?)</td></tr>", page))
    fields = {f"{name}.{field}" if isinstance(value, dict) else name
              for name, value in stored.items() for field in (value if isinstance(value, dict) else [""])}
    assert set(rows) == fields and {"snn.ema_decay", "ann.tet_lambda", "data.cutout"} < fields
    differ = {name: html.unescape(row).split("</td><td>") for name, row in rows.items() if not row.endswith("<td>")}
    assert differ == {"ann.optimizer": ['"sgd"', '"adam"'], "ann.schedule": ['"steps"', '"cosine"'],
                      "ann.milestones": ["[30, 60.5]", "[]"], "data.cutout": ["8", "0"]}


def test_every_section_has_a_heading_and_an_explanation(page):
    assert re.findall(r'<section id="(\w+)">\s*<h2>', page) == list(SECTIONS)
    assert all("<p" in section for section in page.split("<section")[1:-1])


def test_headline_figures_are_the_summarys(run, page):
    summary = json.loads((run / "summary.json").read_text())
    header = page[page.index("<body") : page.index("<main")].replace("\N{NO-BREAK SPACE}", " ")
    for text in ("VGG9 on cifar10", "92.60%", "93.70%", "77.00%", "T = 5", f"{summary['energy']['ratio']:.2f}×"):
        assert text in header


@pytest.mark.slow
def test_the_papers_scale_is_shown_as_the_timesteps_make_it(tmp_path):
    """Linear between the authors' 0.3 at 25 and 0.7 at 100; no other default stands beside it: nothing was set."""
    run = make_run(tmp_path / "run", layers=1, epochs=1)
    stored = dataclasses.asdict(Experiment("mine", timesteps=40))
    (run / "config.json").write_text(json.dumps(stored))
    page = report.write(run).read_text(encoding="utf-8")
    shown, usual = re.search("<td>conversion.scale</td><td>(.*?)</td><td>(.*?)</td>", page).groups()
    assert float(shown) == pytest.approx(0.3 + 0.4 * 15 / 75) and usual == ""


@pytest.mark.slow
def test_settings_left_to_their_default_are_shown_for_what_they_mean(tmp_path):
    run = make_run(tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    config["model"]["batch_norm"] = True
    config["conversion"] |= {"method": None, "percentile": None}
    (run / "config.json").write_text(json.dumps(config))
    page = report.write(run).read_text(encoding="utf-8")
    for name, value in (("conversion.method", "&quot;match&quot;"), ("conversion.percentile", "99.9"),
                        ("conversion.scale", "1.0"), ("neuron.initial_membrane", "0.5"), ("conversion.images", "512")):
        assert f"<td>{name}</td><td>{value}</td><td></td>" in page  # no other default: nothing was set


@pytest.mark.slow
def test_the_page_of_a_run_from_scratch_speaks_of_no_ann_that_was_trained(tmp_path):
    run = make_run(tmp_path, layers=3, epochs=2)
    summary = json.loads((run / "summary.json").read_text()) | {"ann": None, "converted": None}
    (run / "summary.json").write_text(json.dumps(summary))
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(line for line in lines if json.loads(line)["phase"] == "snn"))
    page = report.write(run).read_text(encoding="utf-8")
    assert re.findall(r'<section id="(\w+)">', page) == list(SECTIONS)
    body = page[page.index("<body") : page.index('<section id="configuration">')]
    text = " ".join("".join(Page(body).text).split())
    for said in ("trained from scratch", "less energy than an ANN of the same layers", "value that training began with",
                 "Threshold before and after training", "92.60%"):
        assert said in text
    for not_said in ("conver", "fine-tun", "dashed ANN line", "no training recorded", "through the phases"):
        assert not_said not in text, not_said
    figures = [attributes["aria-label"] for tag, attributes in Page(page).tags if tag == "svg"]
    assert len(figures) == 10 and not any(label.startswith("ANN") for label in figures)  # without bars and ANN's curves


@pytest.mark.slow
def test_layers_that_do_nothing_are_named(tmp_path, page):
    """By the rates of the finished network, and by what the log says of the phases; else the page has no list."""
    assert '<ul class="warnings">' not in page
    run = make_run(tmp_path, layers=3, timesteps=5)
    summary = json.loads((run / "summary.json").read_text())
    for layer, rate in zip(summary["layers"], (5.0, 1.5, 0.0), strict=True):
        layer["spike_rate"] = rate
    (run / "summary.json").write_text(json.dumps(summary))
    lines = (run / "metrics.jsonl").read_text().splitlines()
    for i in (1, 2):  # steps 2 and 3 of the ANN: 20 steps are an epoch
        lines[i] = json.dumps(json.loads(lines[i]) | {"warnings": ["<conv1> sleeps"]})
    (run / "metrics.jsonl").write_text("\n".join(lines))
    warnings = re.search(r'<ul class="warnings">(.*?)</ul>', report.write(run).read_text("utf-8")).group(1)
    silent, always, logged = re.findall("<li>(.*?)</li>", warnings)
    names = [layer["name"] for layer in summary["layers"]]
    assert silent.startswith(f"SNN, at the end: {names[2]} fired at no image")
    assert always.startswith(f"SNN, at the end: {names[0]} fired at every timestep of every image (5 spikes")
    assert logged == "ANN, epochs 0.1 to 0.1: &lt;conv1&gt; sleeps"  # 2/20 and 3/20


def test_the_page_loads_nothing(page):
    for tag, attributes in Page(page).tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base")
        for name, value in attributes.items():
            if name.split(":")[-1] in ("src", "href", "srcset", "data", "action", "poster"):
                assert value.startswith(("data:image/png;base64,", "#")), (tag, name, value[:80])
            assert not re.search(r"url\((?!#)", value or ""), (tag, name, value[:80])
    assert "@import" not in page
    assert not re.search(r"url\((?!['\"]?#)", page)
    assert "default-src 'none'" in page  # the browser holds the page to it


def test_figures_are_described_and_follow_the_colour_scheme(page):
    figures = [attributes for tag, attributes in Page(page).tags if tag == "svg"]
    assert len(figures) == 13
    assert all(figure["role"] == "img" and len(figure["aria-label"]) > 10 for figure in figures)
    assert all(attributes.get("alt") for tag, attributes in Page(page).tags if tag == "img")
    # A colour that is no variable would be invisible on one of the two backgrounds.
    assert set(re.findall(r"(?:fill|stroke): (#\w+)", page)) == set()
    assert all(f"--{name}:" in page for name in plots.COLOURS)


def test_ids_are_unique(page):
    ids = [attributes["id"] for _, attributes in Page(page).tags if attributes.get("id")]
    assert len(ids) == len(set(ids))


@pytest.mark.slow
def test_names_are_escaped_and_kept_whole(tmp_path):
    names = ["<b>&", '"><script>x</script>', "$x^2$", "_hidden", "${network}", "犬", "a", "b", "c", "d"]
    layers = ["<i>conv</i>", "_fc$1$"]
    folder = make_run(tmp_path, layer_names=layers, class_names=names, wrong=60)
    page = report.write(folder).read_text(encoding="utf-8")
    parsed = Page(page)
    assert not {"script", "i"} & {tag for tag, _ in parsed.tags}
    text = "".join(parsed.text)
    for name in (*names, *layers):
        assert name in text, name
    # and in the figures, where matplotlib would read $...$ as mathematics and skip "_"
    logits = np.arange(10.0)[::-1][None]
    svg = plots.to_svg(plots.readout(logits, names, 0, 1), "x")
    assert "$x^2$" in svg
    assert "_hidden" in svg
    assert "&lt;b&gt;&amp; (true)" in svg


@pytest.mark.slow
def test_writing_twice_gives_the_same_bytes(run, page):
    (run / "report.html").write_text("old")
    assert report.write(run).read_text(encoding="utf-8") == page
    assert sorted(path.name for path in run.iterdir()) == sorted([*report.FILES, "metrics.jsonl", "report.html"])


@pytest.mark.parametrize("name", report.FILES)
def test_a_missing_file_is_named_with_the_remedy(tmp_path, name):
    (make_run(tmp_path, layers=1, epochs=1) / name).unlink()
    with pytest.raises(InputError, match=rf"has no {re.escape(name)}.*dietjax train FILE --workdir {tmp_path}"):
        report.write(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_a_missing_entry_or_broken_line_is_named(tmp_path):
    folder = make_run(tmp_path, layers=1, epochs=1)
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps({key: summary[key] for key in summary if key != "energy"}))
    with pytest.raises(InputError, match=r"energy in summary\.json"):
        report.write(folder)
    summary["layers"][0]["name"] = "other"
    (folder / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(InputError, match=r"spikes/other in recorded\.npz"):
        report.write(folder)
    with (folder / "metrics.jsonl").open("a") as lines:
        lines.write('{"phase": "sn')
    with pytest.raises(InputError, match=r"metrics\.jsonl line 44 is not JSON"):
        report.write(folder)


@pytest.mark.parametrize(
    "shape",
    [
        {"layers": 1, "timesteps": 1, "classes": 10, "wrong": 0, "channels": 1, "size": 8, "epochs": 1},
        {"layers": 20, "timesteps": 100, "classes": 1000, "wrong": 3, "size": 224, "epochs": 2},
    ],
    ids=["smallest", "largest"],
)
@pytest.mark.slow
def test_any_size_of_run_has_a_page(tmp_path, shape):
    names = [f"stage{i}_block{i}_second_convolution_{i}" for i in range(shape["layers"])]
    page = report.write(make_run(tmp_path, layer_names=names, **shape)).read_text(encoding="utf-8")
    assert re.findall(r'<section id="(\w+)">', page) == list(SECTIONS)
    assert len(page) < 3_000_000


@pytest.mark.parametrize("names, says", [
    (("b<ound", "rise"), ["Of each layer&#x27;s neurons: b&lt;ound and rise. Each row", "B&lt;ound before and after"]),
    (("threshold", "leak"), ["<h2>Thresholds and leaks</h2>", "together with each layer&#x27;s threshold and leak",
                             "keeps the fraction leak of it"]),
    (("threshold",), ["<h2>Neurons</h2>", "together with each layer&#x27;s threshold.",
                       "neurons: threshold. Each row"]),
    ((), ["These neurons have no parameters: only the weights between them are trained.</p>",
          "fine-tuned through time."]),
], ids=["mine", "lif", "if", "none"])
@pytest.mark.slow
def test_whatever_parameters_the_neurons_have_are_shown(tmp_path, names, says):
    """Of every layer but the last, which has none, as with a neuron of its own."""
    run = make_run(tmp_path, layers=2, epochs=1)
    summary = json.loads((run / "summary.json").read_text())
    for i, layer in enumerate(summary["layers"]):
        old = [key for key in layer if key.endswith(("_before", "_after"))]
        for key in old:
            del layer[key]
        if i == 0:
            layer |= {f"{name}_{when}": value for name in names for when, value in (("before", 0.25), ("after", 0.5))}
    (run / "summary.json").write_text(json.dumps(summary))
    page = report.write(run).read_text(encoding="utf-8").replace("'", "&#x27;")
    assert [sentence for sentence in says if sentence not in page] == []
    table = page.split('<section id="neurons">')[1].split("<table")[1].split("</table>")[0]
    first, second = re.findall("<tr>(.*?)</tr>", table.split("<tbody>")[1])
    cells = [re.findall("<td>(.*?)</td>", row)[2:-1] for row in (first, second)]
    assert cells == [["0.250", "0.500"] * len(names), ["–", "–"] * len(names)]


@pytest.mark.slow
def test_mistakes_say_how_many_are_shown(tmp_path, page):
    assert "got 740 of 10,000 test images wrong. 12 of them:" in page
    none = report.write(make_run(tmp_path, wrong=0, epochs=1)).read_text(encoding="utf-8")
    assert "classified all 10,000 test images correctly" in none
    assert 'class="mistakes"' not in none


@pytest.mark.slow
def test_repeated_steps_of_a_resumed_run_count_once(tmp_path):
    folder = make_run(tmp_path, epochs=2)
    page = report.write(folder).read_bytes()
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    (folder / "metrics.jsonl").write_text("\n".join([*lines, *lines[-25:]]))
    assert report.write(folder).read_bytes() == page


def line(figure, label):
    """Return the data of the line with this label."""
    (found,) = [found for found in figure.axes[0].lines if found.get_label() == label]
    return np.asarray(found.get_xdata()), np.asarray(found.get_ydata())


def test_accuracy_bars_are_the_accuracies():
    figure = plots.accuracy_bars({"snn": 0.9, "ann": 0.95, "converted": 0.5})
    assert [bar.get_width() for bar in figure.axes[0].patches] == [95, 50, 90]  # in the order of the phases
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["ANN", "converted", "SNN"]


def test_curves_are_the_recorded_rows_of_the_phase():
    rows = [
        {"phase": "ann", "split": "test", "epoch": 1, "accuracy": 0.9, "loss": 0.2},
        {"phase": "converted", "split": "test", "epoch": 0, "accuracy": 0.5, "loss": 1.5},
        {"phase": "snn", "split": "train", "epoch": 0.5, "accuracy": 0.7, "loss": 0.6},
        {"phase": "snn", "split": "train", "epoch": 1.0, "accuracy": 0.8, "loss": 0.5},
        {"phase": "snn", "split": "test", "epoch": 1, "accuracy": 0.75, "loss": 0.4},
    ]
    accuracy, loss = plots.curves(rows, "snn", "accuracy"), plots.curves(rows, "snn", "loss")
    np.testing.assert_allclose(line(accuracy, "train"), [[0.5, 1], [70, 80]])
    np.testing.assert_allclose(line(accuracy, "test"), [[1], [75]])
    np.testing.assert_allclose(line(accuracy, "converted, test"), [[0], [50]])
    np.testing.assert_allclose(line(loss, "train"), [[0.5, 1], [0.6, 0.5]])
    assert [found.get_label() for found in plots.curves(rows, "ann", "loss").axes[0].lines] == ["test"]
    assert plots.curves([], "ann", "loss").axes[0].texts[0].get_text() == "no training recorded"


def test_timestep_lines_are_the_recorded_accuracies():
    figure = plots.accuracy_over_timesteps(0.9, {"converted": [0.1, 0.4], "snn": [0.6, 0.8]})
    np.testing.assert_allclose(line(figure, "converted"), [[1, 2], [10, 40]])
    np.testing.assert_allclose(line(figure, "SNN"), [[1, 2], [60, 80]])
    np.testing.assert_allclose(line(figure, "ANN")[1], 90)


@pytest.mark.parametrize("values, span", [
    ((0.997, 1.0), (95.25, 100.25)), ((0.5, 0.51), (48, 53)), ((0.2, 0.9), (16.5, 93.5))])
def test_an_axis_of_accuracies_shows_five_points_at_least(values, span):
    """All that is drawn among them; a wider one is what it was: the data and a twentieth more."""
    rows = [{"phase": "snn", "split": "test", "epoch": i, "accuracy": value} for i, value in enumerate(values)]
    for figure in (plots.accuracy_over_timesteps(None, {"snn": values}), plots.curves(rows, "snn", "accuracy")):
        np.testing.assert_allclose(figure.axes[0].get_ylim(), span)


def test_layers_are_drawn_from_the_first_down_with_their_values():
    dumbbells = plots.dumbbells(["first", "last"], [0.5, 1.5], [0.6, 0.3], "threshold", 0)
    np.testing.assert_allclose(line(dumbbells, "before"), [[0.5, 1.5], [0, 1]])
    np.testing.assert_allclose(line(dumbbells, "after"), [[0.6, 0.3], [0, 1]])
    assert dumbbells.axes[0].yaxis_inverted()
    rates = plots.rate_bars(["first", "last"], [0.0, 2.5], 5).axes[0]
    assert [bar.get_width() for bar in rates.patches] == [0, 2.5]
    energy = plots.energy_bars(["first", "last"], [4.6e-6, 9.2e-6], [4.6e-6, 0]).axes[0]
    np.testing.assert_allclose([bar.get_width() for bar in energy.patches], [4.6, 9.2, 4.6, 0])  # ANN, then SNN
    assert energy.get_xscale() == "log"
    assert plots.rate_bars(["silent"], [0.0], 5).axes[0].get_xlim() == (0, 1)


def test_raster_is_the_recorded_spikes():
    spikes = {f"layer{i}": np.random.default_rng(i).random((4, 9)) < 0.4 for i in range(3)}
    figure = plots.raster(spikes, [9, 9, 4096])
    for axes, fired in zip(figure.axes, spikes.values(), strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array()[..., 3], fired.T)  # [n, T]: neurons down
        assert axes.images[0].get_extent() == [0.5, 4.5, 9, 0]
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[0] == f"layer0 · all 9 neurons, {spikes['layer0'].sum()} spikes"
    assert "9 of 4,096 neurons" in titles[2]


def test_readout_draws_the_largest_the_true_and_the_range_of_the_others():
    logits = np.random.default_rng(0).normal(size=(5, 12)).cumsum(axis=0)
    worst, best = int(logits[-1].argmin()), int(logits[-1].argmax())
    names = [f"c{i}" for i in range(12)]
    figure = plots.readout(logits, names, worst, best)
    np.testing.assert_array_equal(line(figure, f"c{best} (predicted)"), [range(1, 6), logits[:, best]])
    np.testing.assert_array_equal(line(figure, f"c{worst} (true)"), [range(1, 6), logits[:, worst]])
    assert len(figure.axes[0].lines) == 7
    assert figure.axes[0].collections[0].get_label() == "5 other classes"


@pytest.mark.slow
def test_drawing_leaves_the_global_settings_alone(run):
    before = dict(matplotlib.rcParams)
    report.write(run)
    assert dict(matplotlib.rcParams) == before


def test_neither_file_imports_jax():
    for module in (plots, report):
        tree = ast.parse(pathlib.Path(module.__file__).read_text())
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {alias.name for node in imports for alias in node.names} | {getattr(n, "module", "") for n in imports}
        assert not {"jax", "flax", "pyplot", "matplotlib.pyplot"} & names


@pytest.mark.parametrize("content", [b"", b"no zip file", 300, -1], ids=["empty", "text", "cut off", "a byte flipped"])
def test_a_damaged_recording_is_named(tmp_path, content):
    run = make_run(tmp_path)
    whole = (run / "recorded.npz").read_bytes()
    if content == -1:
        content = bytearray(whole)
        content[len(whole) // 2] ^= 255
    (run / "recorded.npz").write_bytes(whole[:content] if isinstance(content, int) else content)
    with pytest.raises(InputError, match=r"recorded\.npz is damaged .*: remove .*summary\.json"):
        report.write(run)


@pytest.mark.parametrize("text", ["[]", "3", "null", "{"])
def test_a_summary_that_is_none_is_named(tmp_path, text):
    run = make_run(tmp_path)
    (run / "summary.json").write_text(text)
    with pytest.raises(InputError, match=r"summary\.json is (no JSON object|not JSON)"):
        report.write(run)
