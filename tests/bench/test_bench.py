"""Laws of `dietjax bench`: what is timed and how, what is printed, what is refused."""

import json
import os
import re
import sys

import jax
import numpy as np
import pytest
from devices import run_script

from dietjax.bench import measure, memory, networks, peers, show
from dietjax.bench.measure import Call, Result
from dietjax.cli import main as cli
from dietjax.data.source import Example
from dietjax.data.stream import usable_cores
from dietjax.errors import InputError

pytestmark = pytest.mark.usefixtures("quick_compile")

NETWORK = ["--model", "VGG4", "--image-shape", "8", "8", "1", "--classifier", "8", "--batch", "1"]
TIMED = {"dtype", "ms", "q25", "q75", "ratio"}
PLANNED = {"temporary MB", "memory ratio"}


@pytest.fixture
def bench(capsys):
    """Runs `dietjax bench ...`: (exit status, stdout, stderr in one line)."""
    def run(*arguments):
        capsys.readouterr()
        try:
            status = cli.main(["bench", *map(str, arguments)])
        except SystemExit as stopped:  # tyro's own
            status = stopped.code
        out, err = capsys.readouterr()
        return status, out, " ".join(err.split())

    return run


# ---- timing


@pytest.fixture
def timed(monkeypatch):
    """(calls, runs) -> rows, where call i takes durations[i][turn] seconds; `order` is who was called."""
    order, now = [], [0.0]
    monkeypatch.setattr(measure.time, "perf_counter", lambda: now[0])

    def make(name, durations, **options):
        left = iter(durations)

        def run():
            order.append(name)
            now[0] += next(left)

        return Call({"what": name}, run, **options)

    return make, order


def test_calls_take_turns_and_the_first_turn_does_not_count(timed):
    make, order = timed
    rows = measure.alternate([make("a", [100, 1, 5, 2, 4, 3]), make("b", [100, 6, 6, 6, 6, 7])], 5)
    assert order == ["a", "b"] * 6
    assert rows == [{"what": "a", "ms": 3000, "q25": 2000, "q75": 4000, "ratio": 1},
                    {"what": "b", "ms": 6000, "q25": 6000, "q75": 6000, "ratio": 2}]


def test_ratios_are_to_the_latest_base(timed):
    make, _ = timed
    rows = measure.alternate([
        make("first", [0, 2], temporary=10**6), make("a", [0, 3], temporary=5 * 10**6), make("peer", [0, 1]),
        make("second", [0, 4], temporary=0, base=True), make("b", [0, 1], temporary=10**6)], 1)
    assert [row["ratio"] for row in rows] == [1, 1.5, 0.5, 1, 0.25]
    assert [row.get("temporary MB") for row in rows] == [1, 5, None, 0, 1]
    assert [row.get("memory ratio") for row in rows] == [1, 5, None, None, None]


def test_no_runs_are_refused():
    with pytest.raises(InputError, match="runs must be at least 1, got 0"):
        measure.alternate([], 0)


def test_an_environment_names_the_versions_of_peers_and_of_torch_below_them(monkeypatch):
    monkeypatch.setattr(measure.metadata, "version", lambda name: f"version of {name}")
    jax.devices()  # XLA has read its flags
    monkeypatch.setenv("XLA_FLAGS", "--some")
    found = measure.environment("snntorch")
    assert {found[name] for name in ("jax", "snntorch", "torch")} == {
        "version of jax", "version of snntorch", "version of torch"}
    assert found["XLA_FLAGS"] == "--some"
    assert "torch" not in measure.environment("spyx")


# ---- the commands

COMMANDS = {
    "step": ([*NETWORK, "--timesteps", 2, "--runs", 1], TIMED | PLANNED | {"network", "T"},
             ["matrix product", "ANN, 2 images", "SNN, layer by layer"]),
    "inference": ([*NETWORK, "--timesteps", 2, "--runs", 1, "--backend", "scan"],
                  TIMED | PLANNED | {"network", "T"},
                  ["matrix product", "ANN, 2 images", "SNN, layer by layer, scan"]),
    "inference of a ResNet": (
        ["--model", "ResNet12", "--image-shape", 16, 16, 1, "--batch", 1, "--timesteps", 2, "--runs", 1],
        TIMED | PLANNED | {"network", "T"}, ["matrix product", "ANN, 2 images", "SNN, layer by layer"]),
    "neuron": (["--batch", 2, "--neurons", 8, "--timesteps", 2, 3, "--runs", 2, "--backend", "xla"],
               TIMED | {"temporary MB", "GB/s", "share", "what", "T"}, ["copy", "LIF, xla"] * 2),
    "layer": (["--features", 8, 16, "--batch", 2, "--timesteps", 3, "--runs", 1, "--backend", "scan", "xla"],
              TIMED | PLANNED | {"what", "n"}, ["dietjax, scan", "dietjax, xla"] * 2),
    "convolution": (["--side", 4, 5, "--channels", 32, 40, "--images", 2, "--runs", 1],
                    TIMED | PLANNED | {"what", "map"},
                    ["matrix product", "XLA's own", "kernel's gradient as products", "columns", "Winograd *"] * 2),
    "convolution with a stride": (
        ["--side", 5, "--channels", 3, 4, "--images", 2, "--runs", 1, "--kernel", 5, 1, "--stride", 2, 1, "--first"],
        TIMED | PLANNED | {"what", "map"}, ["matrix product", "XLA's own", "columns *"]),
    "convolution that is pooled": (["--side", 4, "--channels", 32, 40, "--images", 2, "--runs", 1, "--pooled"],
                                   TIMED | PLANNED | {"what", "map"},
                                   ["matrix product", "XLA's own, then pool",
                                    "kernel's gradient as products, then pool", "columns, then pool",
                                    "Winograd, then pool", "pooled *"]),
    "memory": ([*NETWORK, "--timesteps", 2, "--chunk", 2, 3],
               PLANNED | {"network", "dtype", "T", "predicted MB"},
               ["ANN, 2 images", "SNN, layer by layer"]),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def results(folder, quick_compile):
    """Command -> what it printed as JSON; each drew a plot too."""
    found = {}
    for name, (arguments, *_) in COMMANDS.items():
        printed = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(measure, "MATRIX_SIDE", 64)
            patch.setattr("builtins.print", printed.append)
            plot = str(folder / f"{name}.png")
            assert cli.main(["bench", name.split()[0], *map(str, arguments), "--json", "--plot", plot]) == 0
        found[name] = json.loads(printed[0])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_prints_rows_as_json_and_draws_them(results, folder, command):
    _, columns, labels = COMMANDS[command]
    found = results[command]
    assert found.keys() == {"title", "rows", "environment", "notes", "settings", "command"}
    ours = [row for row in found["rows"] if next(iter(row.values())) != "matrix product"]
    assert all(set(row) - {"GFLOP/s", "of matmul"} == columns for row in ours)
    assert [next(iter(row.values())) for row in found["rows"]] == labels
    assert all(row["q25"] <= row["ms"] <= row["q75"] and row["ms"] > 0 for row in found["rows"] if "ms" in row)
    assert {"device", "CPU cores", "system", "dietjax", "jax", "jaxlib"} <= found["environment"].keys()
    assert (folder / f"{command}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_settings_that_repeat_a_result_are_in_it(results):
    assert results["step"]["settings"] == {
        "command": "step", "timesteps": [2], "chunk": [], "remat": False, "backend": ["auto"], "dtype": ["float32"],
        "peer": [], "runs": 1, "of": {"model": "VGG4", "image_shape": [8, 8, 1], "num_classes": 10, "classifier": [8],
                                      "batch": 1, "width": 1.0}}
    assert {name: found["settings"]["command"] for name, found in results.items()} == {
        name: name.split()[0] for name in COMMANDS}


@pytest.mark.slow
def test_chunks_that_have_no_row_are_named(results):
    assert results["memory"]["notes"] == [f"no rows of chunk {chunk} at T=2: it must divide T and be less"
                                          for chunk in (2, 3)]


@pytest.mark.slow
def test_rates_are_operations_over_time_and_shares_those_of_a_matrix_product(results):
    """A 5×1 kernel, 3 to 4 channels, forward and its own gradient: 2 · 2 · 5 · 3 · 4 at 3 × 5 places of 2 images."""
    product, own, _ = results["convolution with a stride"]["rows"]
    assert own["GFLOP/s"] == pytest.approx(2 * 2 * 5 * 3 * 4 * 3 * 5 * 2 / own["ms"] / 1e6)
    assert product["GFLOP/s"] == pytest.approx(2 * 64**3 / product["ms"] / 1e6)
    assert own["of matmul"] == pytest.approx(own["GFLOP/s"] / product["GFLOP/s"])


@pytest.mark.slow
def test_shares_are_of_the_bandwidth_of_the_copy(results):
    for copy, ours in zip(results["neuron"]["rows"][::2], results["neuron"]["rows"][1::2], strict=True):
        assert copy["share"] is None and ours["share"] == pytest.approx(2.5 * copy["ms"] / ours["ms"])


def test_training_batches_are_compared_with_decoding_the_same_images(bench, monkeypatch, tmp_path):
    from dietjax.bench import input as reading

    asked = []
    monkeypatch.setattr(reading, "IMAGES", 6)
    monkeypatch.setattr(reading, "MADE", 3)
    monkeypatch.setattr(reading, "_loop", lambda decode, indices, threads: asked.append(
        (threads, [decode(i) for i in indices.tolist()])))
    plot = tmp_path / "plot.png"
    status, out, err = bench("input", "--image-size", 32, "--batch", 4, "--threads", 2, "--runs", 1, "--json", "--plot",
                             plot)
    assert status == 0, err
    found = json.loads(out)
    assert [row["what"] for row in found["rows"]] == ["cv2.imread", "cv2.imdecode, from memory", "training batches"]
    assert "8 images a run" in found["title"]  # whole batches
    (threads, read), (_, from_memory) = asked[:2]
    assert threads == 2 and len(read) == 8 and {image.shape for image in read} == {(375, 500, 3)}
    np.testing.assert_array_equal(read, from_memory)
    assert re.search(r"made for this, 10\d kB each", found["title"])
    for row in found["rows"]:
        assert row["share"] == pytest.approx(found["rows"][0]["ms"] / row["ms"])
        assert row["images/s/core"] == pytest.approx(8e3 / row["ms"] / min(2, usable_cores()))
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_what_is_stored_as_pixels_has_no_decoding_to_compare_with(bench, monkeypatch, digits_folder):
    from dietjax.bench import input as reading

    opened = reading.data.load("digits", digits_folder, image_size=8)
    opened.train.source = [Example(np.zeros((8, 8, 1), np.uint8), 0)]
    monkeypatch.setattr(reading.data, "load", lambda *_, **__: opened)
    status, _, err = bench("input", "--name", "digits")
    assert status == 2 and "digits stores pixels, not JPEG or PNG files" in err


def test_what_is_prepared_is_not_timed(timed):
    make, order = timed
    rows = measure.alternate([make("a", [0, 1], prepare=lambda: order.append("before"))], 1)
    assert order == ["before", "a"] * 2 and rows[0]["ms"] == 1000


linux = pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")


@linux
def test_the_peak_of_a_step_is_what_it_holds_at_once_at_most():
    held = np.ones(16 * 2**20, np.uint8)

    def step():
        first = np.ones(32 * 2**20, np.uint8)
        del first
        return np.ones(64 * 2**20, np.uint8).sum() + held[0]

    assert 63 < memory._peak(step, None) / 2**20 * 1e6 < 72  # Linux counts pages to within a few dozen


def test_no_peak_where_the_system_does_not_say(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(InputError, match="/proc, which darwin does not have; leave --peer away"):
        memory._peak(lambda: None, None)


@linux
@pytest.mark.slow
def test_a_step_s_peak_is_at_least_its_temporaries():
    subject = networks.Subject("VGG4", (16, 16, 3), 10, (8,), 8)
    planned = memory._planned(subject, "SNN", {}, 4, "float32")["temporary MB"]
    _, peak = memory._in_its_own_process(subject, "SNN", {}, 4, "float32")
    assert planned <= peak < planned + 60  # outputs, and what the allocator rounds up


def test_peaks_stand_beside_what_peers_take(bench, monkeypatch, tmp_path):
    asked = []

    def runs(subject, name, options, steps, dtype):
        asked.append((name, options, steps))
        return f"{name}'s mode", 100.0 * len(asked)

    monkeypatch.setattr(memory, "_in_its_own_process", runs)
    monkeypatch.setattr(memory, "_planned", lambda *_: {"predicted MB": 3.0, "temporary MB": 2.0})
    monkeypatch.setattr(peers, "check", lambda *names: None)
    monkeypatch.setattr(measure.metadata, "version", lambda name: "1")
    status, out, err = bench("memory", *NETWORK, "--timesteps", 4, "--chunk", 2, "--peer", "spikingjelly", "--peer",
                             "norse", "--memory-level", 0, 1, "--json", "--plot", tmp_path / "plot.png")
    assert status == 0, err
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads(out)
    assert [(row["network"], row["peak MB"], row.get("memory ratio")) for row in found["rows"]] == [
        ("ANN, 4 images", 400, 1), ("SNN, layer by layer", 500, 1), ("SNN, chunk 2", 600, 1),
        ("SNN, chunk 2, remat", 700, 1), ("spikingjelly", 100, None), ("spikingjelly, level 1", 200, None),
        ("norse", 300, None)]
    assert asked[:3] == [("spikingjelly", {}, 4), ("spikingjelly", {"memory_level": 1}, 4), ("norse", {}, 4)]
    assert asked[-1] == ("SNN", {"chunk": 2, "remat": True}, 4)
    assert found["notes"][-1] == "norse, T=4, float32: norse's mode"


def test_a_step_that_cannot_fit_is_refused_before_it_is_compiled(bench, monkeypatch):
    monkeypatch.setattr("dietjax.analysis.memory.device_memory", lambda: 1000)
    status, _, err = bench("step", *NETWORK, "--timesteps", 2)
    assert status == 2 and "a training step on 1 images a device at 2 timesteps takes about" in err


def test_schedules_are_the_whole_block_and_every_chunk():
    assert networks.schedules(4, (1, 2), False) == {
        "layer by layer": {}, "chunk 1": {"chunk": 1}, "chunk 2": {"chunk": 2}}
    assert networks.schedules(4, (2,), True)["chunk 2, remat"] == {"chunk": 2, "remat": True}


def test_a_table_shows_every_column_its_notes_and_where_it_was_measured(monkeypatch, capsys):
    monkeypatch.delenv("COLUMNS", raising=False)
    show.table(Result("a [title]", [{"what": "x" * 90, "ms": 1.234, "share": None}, {"what": "b", "share": 0.5}],
                      {"device": "abacus"}, ("a note",)))
    out = capsys.readouterr().out
    assert out.startswith("a [title]\n") and "x" * 90 in out  # whole, though nobody's terminal is so wide
    assert re.search(r"what\W+ms\W+share", out) and "1.23" in out and "0.50" in out and " - " in out
    assert out.endswith("a note\ndevice abacus\n")


@pytest.mark.parametrize("times", [(2,), (2, 4)])
@pytest.mark.parametrize("suffix, magic", [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_plots_over_time_and_of_one_time(tmp_path, times, suffix, magic):
    rows = [{"network": name, "dtype": "float32", "T": t, "temporary MB": 1.0 * t, "predicted MB": 2.0}
            for t in times for name in (f"ANN, {t} images", "SNN, chunk 1", "SNN")]
    show.plot(Result("memory", rows, {}), tmp_path / f"plot{suffix}")
    assert (tmp_path / f"plot{suffix}").read_bytes().startswith(magic)


@pytest.mark.slow
def test_peers_are_compared_on_a_network_whose_every_layer_spikes(monkeypatch):
    """Else libraries would agree on logits of 0."""
    subject = networks.Subject("VGG4", (8, 8, 1), 10, (8,), 2)
    snn, images = subject.networks("float32")[1], subject.examples(2)[0]
    variables = jax.jit(snn.init)(jax.random.key(0), images)
    run = jax.jit(lambda variables, images: snn.apply(variables, images, 2))

    def build(name, net, variables, images, labels, timesteps, dtype):
        assert {str(leaf.dtype) for leaf in jax.tree.leaves(variables)} == {dtype} == {"float64"}

        class Peer:
            exact = name != "other"

            def logits(self, images):
                return net.apply(variables, images, timesteps)[0] + 1

        return Peer()

    monkeypatch.setattr(peers, "build", build)
    for name, gain, says in (("same", networks.GAIN, r"in float64 .* at most 1\.0e\+00 of"),
                             ("same", 0, "0, which compares nothing"), ("other", 0, "its neuron is not ours")):
        scaled = networks.lively(variables, gain)
        assert all(rate > 0 for rate in run(scaled, images)[1]["spike_rate"].values()) == (gain > 0)
        assert re.search(says, networks.agreement(name, subject, scaled, 2))


# ---- many devices

SCALING = """
import sys, jax
from dietjax.cli import main as cli
jax.config.update("jax_disable_most_optimizations", True)
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_devices_send_a_ring_s_bytes(tmp_path):
    command = ["bench", "scaling", *NETWORK, "--timesteps", "2", "--runs", "1", "--devices", "4", "--json",
               "--plot", str(tmp_path / "plot.png")]
    result = json.loads(run_script(4, SCALING, *command))
    assert [row["devices"] for row in result["rows"]] == [1, 4] and result["settings"]["devices"] == [4]
    columns = TIMED | PLANNED | {"devices", "T", "images/s", "efficiency", "sent MB", "ring MB"}
    assert all(set(row) == columns for row in result["rows"])
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    weights = 4 * (9 * 64 + 9 * 64 * 128 + 512 * 8 + 8 * 10 + 3 * 2) / 1e6  # and three leaks and thresholds
    for row in result["rows"]:
        n = row["devices"]
        assert row["ring MB"] == pytest.approx(2 * (n - 1) / n * weights)
        assert row["ring MB"] <= row["sent MB"] <= row["ring MB"] + 2 * 4 * 20 / 1e6  # and some sums for the metrics
        assert row["images/s"] == pytest.approx(n / row["ms"] * 1e3)
        assert row["efficiency"] == pytest.approx(result["rows"][0]["ms"] / row["ms"])
    assert re.search("4 devices share .* say nothing about scaling, only the bytes do", result["notes"][0])


# ---- mistakes

MISTAKES = {
    "chunk": (["step", *NETWORK, "--timesteps", 4, 5, "--chunk", 2],
              r"chunk 2 does not divide 5 timesteps; use one of \[1, 5\]"),
    "backend of a step": (["step", *NETWORK, "--backend", "xal"], "unknown backend 'xal'; did you mean 'xla'"),
    "backend of a neuron": (["neuron", "--backend", "foo"], "unknown backend 'foo'. Known: auto, scan"),
    "backend of a layer": (["layer", "--backend", "foo"], "unknown backend 'foo'"),
    "network": (["step", "--model", "VGG7"], "unknown network 'VGG7'"),
    "no timesteps": (["inference", "--timesteps", 4, 0], r"--timesteps must be at least 1, got \(4, 0\)"),
    "no chunk": (["memory", "--chunk", 0], r"--chunk must be at least 1, got \(0,\)"),
    "no runs": (["step", "--runs", 0], "--runs must be at least 1, got 0"),
    "no batch": (["step", *NETWORK[:-1], 0], "--batch must be at least 1, got 0"),
    "no image": (["memory", "--image-shape", 8, 0, 1], "--image-shape must be at least 1"),
    "no classifier": (["step", *NETWORK, "--classifier", 0], "--classifier must be at least 1"),
    "no neurons": (["neuron", "--neurons", -3], "--neurons must be at least 1, got -3"),
    "no features": (["layer", "--features", 8, 0], "--features must be at least 1"),
    "no images": (["input", "--batch", 0], "--batch must be at least 1, got 0"),
    "no such folder": (["input", "--name", "folder:/nowhere"], "/nowhere is no directory"),
    "no map": (["convolution", "--side", 4, 0], "--side must be at least 1"),
    "no pool": (["convolution", "--side", 4, 5, "--pooled"], "side 5 cannot be pooled by 2; give even sides"),
    "even kernel": (["convolution", "--kernel", 3, 2], r"--kernel must be odd, got \(3, 2\)"),
    "pool of a stride": (["convolution", "--pooled", "--stride", 2, 2], "--pooled takes a square kernel of stride 1"),
    "no devices": (["scaling", "--devices", 0], "--devices must be at least 1"),
    "dtype": (["step", "--dtype", "int8"], "int8"),
    "plot": (["neuron", "--plot", "plot.jpg"], "--plot plot.jpg must end in .png, .svg or .pdf"),
    "plot nowhere": (["scaling", "--plot", "/nowhere/at/all.png"], "there is no folder /nowhere/at"),
    "unknown peer": (["step", "--peer", "torch"], "torch"),
    "missing peer": (["step", *NETWORK, "--peer", "norse"],
                     "norse cannot be imported.*`pip install norse torch` installs it"),
    "missing peer of memory": (["memory", *NETWORK, "--peer", "norse"], "norse cannot be imported"),
    "memory level": (["memory", *NETWORK, "--memory-level", 5], "memory-level"),
    "missing peer of a layer": (["layer", "--peer", "norse"], "norse cannot be imported"),
    "devices": (["scaling", *NETWORK, "--devices", 1, 1000],
                "1000 devices asked for, .* has .*XLA_FLAGS=--xla_force_host_platform_device_count=1000"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_before_anything_is_compiled(bench, monkeypatch, mistake):
    def compiles(*_, **__):
        raise AssertionError("it compiles")

    monkeypatch.setitem(sys.modules, "norse", None)
    for module in (networks, sys.modules.get("dietjax.bench.cells", networks)):
        monkeypatch.setattr(module, "compiled", compiles)
    arguments, says = MISTAKES[mistake]
    status, out, err = bench(*arguments)
    assert status == 2 and out == ""
    assert re.search(says, err), err


def test_a_folder_that_cannot_be_written_is_named_before_anything_is_measured(bench, monkeypatch, tmp_path):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    status, _, err = bench("step", "--plot", tmp_path / "plot.png")
    assert status == 2 and f"the folder {tmp_path} cannot be written" in err
