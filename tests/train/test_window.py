"""Laws of window: means over the steps of a line, the same whether or not the run was stopped between them."""

import json
import types

import numpy as np
import pytest

from dietjax import models
from dietjax.train.health import TrainingError
from dietjax.train.window import MetricWindow, memory

NET = models.build("VGG4", 10, (8, 8, 1), classifier=(16,))
SPIKING = ["conv1", "conv2", "fc1"]
MEASURED = {"images_per_second", "input_wait_share", "process_memory_bytes"}


def metrics(step):
    """Of one step, as a compiled step returns them: float32."""
    rng = np.random.default_rng(step)
    by_layer = [{name: np.float32(rng.random() + 0.1) for name in SPIKING} for _ in range(4)]
    return {"loss": np.float32(rng.random()), "accuracy": np.float32(rng.random()), "spike_rate": by_layer[0],
            "least_threshold": by_layer[1], "neurons": {"threshold": by_layer[2], "leak": by_layer[3]},
            "finite": dict.fromkeys([*SPIKING, "fc2"], True)}


def take(meter, steps):
    for step in steps:
        with meter.waiting():
            pass
        meter.add(metrics(step))


def test_a_line_has_means_over_its_steps_and_the_last_thresholds_and_leaks():
    meter = MetricWindow(NET, "snn", 32)
    take(meter, range(7))
    assert len(meter) == 7
    line = meter.line(7)
    seen = [metrics(step) for step in range(7)]
    assert line["loss"] == pytest.approx(np.mean([m["loss"] for m in seen], dtype=np.float64), rel=1e-12)
    for name in SPIKING:
        rate = np.mean([m["spike_rate"][name] for m in seen], dtype=np.float64)
        assert line["spike_rate"][name] == pytest.approx(rate, rel=1e-12)
    assert (line["threshold"], line["leak"]) == tuple(seen[-1]["neurons"].values())
    assert 0 <= line["input_wait_share"] <= 1 and line["images_per_second"] > 0
    assert len(meter) == 0
    take(meter, [7])
    assert meter.line(8)["loss"] == float(metrics(7)["loss"])  # and nothing of the line before


@pytest.mark.parametrize("stops", [0, 1, 6])
def test_a_line_is_the_same_bits_when_the_run_stopped_in_between(stops):
    whole, first = MetricWindow(NET, "snn", 32), MetricWindow(NET, "snn", 32)
    take(whole, range(7))
    take(first, range(stops))
    first.collect(stops)
    second = MetricWindow(NET, "snn", 32, json.loads(json.dumps(first.gathered)))
    assert len(second) == stops
    take(second, range(stops, 7))
    expected, found = whole.line(7), second.line(7)
    for key in MEASURED:
        del expected[key], found[key]
    assert found == expected


def test_what_an_earlier_version_had_gathered_goes_on_by_name():
    """It kept one number for each layer, in their order."""
    meter = MetricWindow(NET, "snn", 32, {"loss": [0.5], "spike_rate": [[1.0, 2.0, 3.0]]})
    take(meter, [0])
    rates = metrics(0)["spike_rate"]
    assert meter.line(1)["spike_rate"] == {name: (before + float(rates[name])) / 2
                                           for name, before in zip(SPIKING, (1.0, 2.0, 3.0), strict=True)}


def test_a_step_that_diverged_is_named_by_its_number():
    meter = MetricWindow(NET, "snn", 32)
    take(meter, range(10, 13))
    meter.add(metrics(13) | {"loss": np.float32("nan")})
    with pytest.raises(TrainingError, match="loss is nan at step 13"):
        meter.collect(14)


def test_memory_is_that_of_the_fullest_device_or_else_of_the_process():
    def device(stats):
        return types.SimpleNamespace(memory_stats=lambda: stats)

    assert memory([device({"peak_bytes_in_use": 3}), device({"peak_bytes_in_use": 5})]) == {"device_memory_bytes": 5}
    for silent in (None, {}):
        resident = memory([device(silent)])
        assert list(resident) == ["process_memory_bytes"]
        assert 10**7 < resident["process_memory_bytes"] < 10**12
