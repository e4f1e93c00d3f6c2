"""Laws of dietjax.train.reporter: a network that does nothing is never silent about it."""

import jax
import jax.numpy as jnp
import pytest
from quadrants import init, make_dataset, make_net

from dietjax.checkpoint.manager import Checkpoints
from dietjax.config import Phase
from dietjax.core.neurons import LIF, ReLU
from dietjax.parallel.mesh import make_mesh
from dietjax.train.evaluate import Evaluator
from dietjax.train.loop import fit
from dietjax.train.plan import Plan
from dietjax.train.reporter import Reporter
from dietjax.train.state import TimeSchedule

pytestmark = pytest.mark.usefixtures("quick_compile")

T = 2


def trained(folder, net, variables, epochs=2):
    """(Sentences, lines [(split, step, values)]) of a phase."""
    warned, lines = [], []
    plan = Plan("snn", net, make_dataset(), Phase(epochs=epochs, batch_size=64, learning_rate=1e-4),
                TimeSchedule(T), make_mesh())
    reporter = Reporter(plan, begin=lambda *_: None, log=lambda *line: lines.append(line), advance=lambda *_: None,
                        warn=warned.append)
    with Checkpoints(folder) as checkpoints:
        fit(plan, variables, Evaluator(plan), checkpoints, reporter)
    return warned, lines


def changed(variables, **leaves):
    """Every leaf whose path ends with one of these names, filled with its value."""
    def leaf(path, x):
        name = next((n for n in leaves if jax.tree_util.keystr(path).endswith((f".{n}", f"['{n}']"))), None)
        return x if name is None else jnp.full_like(x, leaves[name])

    return jax.tree_util.tree_map_with_path(leaf, variables)


@pytest.mark.slow
def test_a_network_that_works_is_not_warned_about(tmp_path):
    net = make_net(neuron=LIF())
    warned, lines = trained(tmp_path, net, changed(init(net), threshold=0.1))
    assert not warned and not any("warnings" in values for _, _, values in lines)
    assert not any("zero_gradient" in values for _, _, values in lines)


@pytest.mark.slow
def test_silent_layers_and_gradients_of_zero_are_named_once_and_logged_in_every_line(tmp_path):
    """No membrane comes near a threshold of 1e9: z is -1, where the surrogate's derivative is 0."""
    net = make_net(neuron=LIF())
    warned, lines = trained(tmp_path, net, changed(init(net), threshold=1e9))
    hidden = ", ".join(layer.name for layer in net.layers[:-1])
    silent, still = warned
    assert silent.startswith(f"{hidden} fired at no image")
    assert f"weights of {hidden}, {net.layers[-1].name} was exactly 0" in still
    assert [values["warnings"] for split, _, values in lines if split == "train"] == [[silent, still]] * 2
    assert [values["warnings"] for split, _, values in lines if split == "test"] == [[silent]] * 2


@pytest.mark.slow
def test_layers_that_fire_at_every_step_are_named(tmp_path):
    """A bias of 1,000 lifts every membrane over every threshold."""
    net = make_net(neuron=LIF(), bias=True)
    warned, lines = trained(tmp_path, net, changed(init(net), bias=1000.0), epochs=1)
    assert any(f"fired at every timestep of every image ({T} spikes per neuron)" in sentence for sentence in warned)
    tested = next(values for split, _, values in lines if split == "test")
    assert tested["warnings"][0].startswith(", ".join(layer.name for layer in net.layers[:-1]) + " fired at every")


@pytest.mark.slow
def test_an_ann_whose_neurons_are_all_below_zero_is_named(tmp_path):
    net = make_net(neuron=ReLU(), bias=True)
    variables = jax.tree.map(jnp.copy, init(net))  # which is kept for others
    first = net.layers[0].name
    variables["params"][first]["bias"] = jnp.full_like(variables["params"][first]["bias"], -1e6)
    warned, _ = trained(tmp_path, net, variables, epochs=1)
    sentence, = warned
    assert f"the gradient of the weights of {first}" in sentence and "model.batch_norm" in sentence
