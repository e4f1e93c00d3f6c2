"""docs/neuron.md: its code runs as it stands, its neuron is the equation above it, its tables are the protocol."""

import inspect
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pages
import pytest

import dietjax as dj
from dietjax.types import Neuron

PAGE = pathlib.Path(__file__).parents[1] / "docs/neuron.md"


@pytest.mark.slow
def test_every_example_runs_and_prints_what_stands_below_it(digits_folder, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(digits_folder))
    pages.check(PAGE)


def test_the_neuron_of_the_page_is_its_equation_and_as_short_as_the_page_says(x64):
    code, _ = pages.examples(PAGE)[0]
    assert len(code.split("@dataclasses", 1)[1].splitlines()) <= 30
    neuron = pages.check(PAGE, 1)["EIF"](leak=0.8, threshold=0.7, sharpness=0.3)
    currents = np.random.default_rng(0).normal(0.2, 0.4, (2, 20, 3))
    u, expected = np.zeros((2, 3)), np.zeros_like(currents)
    for t in range(20):
        u = 0.8 * u + 0.2 * 0.21 * np.exp((u - 0.35) / 0.21) + currents[:, t]
        expected[:, t] = u > 0.7
        u[u > 0.7] = 0
    params = neuron.init(jax.random.key(0), (3,), jnp.float64)
    state, spikes = jax.jit(lambda c: dj.unroll(neuron, params, None, c))(jnp.asarray(currents))
    np.testing.assert_array_equal(spikes, expected)
    np.testing.assert_allclose(state, u, rtol=1e-12)
    assert 0.05 < expected.mean() < 0.95


def test_the_page_names_every_method_of_the_protocol_with_its_arguments():
    """Those that types.py asks for are among those that the page says you have to write."""
    text = PAGE.read_text("utf-8")
    required = dict(re.findall(r"^\| `(\w+)\(([^)]*)\)` \|", text.split("| you may write |")[0], re.MULTILINE))
    methods = {name: function for name, function in vars(Neuron).items()
               if inspect.isfunction(function) and not name.startswith("_")}
    assert required == {name: ", ".join(list(inspect.signature(function).parameters)[1:])
                        for name, function in methods.items()}
