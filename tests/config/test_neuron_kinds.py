"""Laws of config: which neurons there are, how their parameters are said, what an earlier version's mean."""

import dataclasses
import typing

import pytest
from configs import FULL, changed

import dietjax
from dietjax import models
from dietjax.config import Experiment, Model, Neuron, check, from_dict, names, resolved
from dietjax.config.resolved import LIF
from dietjax.config.values import fits, named_values
from dietjax.errors import InputError


def test_the_names_are_those_of_the_library():
    assert set(typing.get_args(names.Surrogate)) == set(dietjax.surrogate.DERIVATIVES)
    assert {*models.VGGS, *models.RESNETS, *models.COMPACT} == set(typing.get_args(names.Network))


def test_none_is_the_papers_neuron_and_of_another_kind_that_kinds_own():
    """As `dietjax.LIF` has it by default."""
    meant = resolved(Experiment("x")).neuron
    assert {name: getattr(meant, name) for name in LIF} == LIF
    built = dietjax.LIF()
    assert (built.leak, built.sharing, built.reset, built.surrogate) == (
        meant.leak, meant.sharing, meant.reset, dietjax.Surrogate(meant.surrogate))
    other = Experiment("x", neuron=Neuron("plif"))
    assert resolved(other).neuron == Neuron("plif")
    assert resolved(changed(other, "conversion.method", "match")).neuron.initial_membrane == 0.5


def test_a_neuron_stored_before_there_were_kinds_is_the_same_one():
    """It says in values what None stands for now, so that the run goes on under a file that says nothing."""
    stored = {"leak": 1.0, "sharing": "channel", "reset": "subtract", "surrogate": "piecewise_linear", "freeze": [],
              "initial_membrane": None}
    assert from_dict(Neuron, stored) == Neuron(sharing="channel")
    assert from_dict(Neuron, dataclasses.asdict(Neuron("if", reset="zero"))) == Neuron("if", reset="zero")
    explicit = Neuron(**LIF)
    assert from_dict(Neuron, dataclasses.asdict(explicit)) == explicit
    assert resolved(Experiment("x", neuron=explicit)) == resolved(Experiment("x"))


def test_parameters_are_python_values_or_words():
    assert named_values(("tau=4", "decay=0.5", "soft=True", "mode=fast", "sizes=(1, 2)", "none=None", "a==b")) == {
        "tau": 4, "decay": 0.5, "soft": True, "mode": "fast", "sizes": (1, 2), "none": None, "a": "=b"}


@pytest.mark.parametrize("value, kind, holds", [
    (4, float, True), (True, float, False), (4.0, int, False), ("zero", typing.Literal["zero", "none"], True),
    ("soft", typing.Literal["zero", "none"], False), ((1, 2), tuple[int, ...], True),
    ((1, "2"), tuple[int, ...], False), (None, float | None, True), ("x", float | None, False),
    ("x", Model, False), ("arctan", str | typing.Callable, True), ({}, str | int, False),
    ([1], typing.Any, True), ("x", typing.Callable, True),
])
def test_a_value_fits_its_type(value, kind, holds):
    assert fits(value, kind) == holds


@pytest.mark.parametrize("neuron, says", [
    (Neuron("plfi"), "unknown neuron.kind 'plfi'; did you mean 'plif'. Known: lif, if, plif.*MODULE:CLASS"),
    (Neuron("mine.py:Mine"), None), (Neuron("mine:"), "unknown neuron.kind 'mine:'"),
    (Neuron("my module:Mine"), "unknown neuron.kind"), (Neuron(4), "neuron.kind must be .*, got 4"),
    (Neuron("plif", ("tau",)), "neuron.parameters are NAME=VALUE each, such as tau=4, got 'tau'"),
    (Neuron("plif", ("tau=",)), "NAME=VALUE each"), (Neuron("plif", ("a b=1",)), "NAME=VALUE each"),
    (Neuron("plif", ("tau=4", "tau=5")), "neuron.parameters say tau twice, got tau=4 tau=5"),
    (Neuron("lif", ("leak=0.5",)), "neuron.parameters say leak, which is a setting of its own: set neuron.leak"),
    (Neuron(freeze=(3,)), "neuron.freeze must be tuple"),
])
def test_a_kind_that_cannot_be_is_refused_by_name(neuron, says):
    asked = changed(FULL, "neuron", neuron)
    if says is None:
        check(asked)
    else:
        with pytest.raises(InputError, match=says):
            check(asked)
