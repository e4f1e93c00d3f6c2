"""Laws of a neuron's step: it gives back the state that it was given, and one output for each neuron, or is refused."""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

import dietjax as dj
from dietjax.errors import InputError

CURRENTS = jnp.ones((2, 3, 4))


class State(NamedTuple):
    membrane: Any
    count: Any = None


@dataclasses.dataclass(frozen=True)
class Adder:
    """Adds up its currents; `change` is what its step makes of the state, `shape` of the output."""

    change: Any = lambda state: state
    shape: Any = lambda output: output

    def init(self, key, shape, dtype=jnp.float32):
        return ()

    def initial_state(self, params, shape, dtype=jnp.float32):
        return State(jnp.zeros(shape, dtype))

    def step(self, params, state, current):
        membrane = state.membrane + current
        return self.change(state._replace(membrane=membrane)), self.shape(membrane)


@pytest.mark.parametrize("change, says", [
    (lambda s: s._replace(membrane=s.membrane.astype(jnp.bfloat16)),
     r"\.membrane came as float32\[2, 4\] and leaves as bfloat16\[2, 4\]"),
    (lambda s: s._replace(membrane=s.membrane.sum(0)),
     r"\.membrane came as float32\[2, 4\] and leaves as float32\[4\]"),
    (lambda s: s._replace(count=s.membrane), r"\.count is new"),
    (lambda s: (s.membrane, s.membrane), r"\.membrane is missing; \[0\] is new; \[1\] is new"),
    (lambda s: s.membrane, r"\.membrane is missing; the state is new"),
    (lambda s: dj.MembraneState(s.membrane), r"State.* became .*MembraneState"),
], ids=["dtype", "shape", "new", "containers", "bare", "type"])
@pytest.mark.parametrize("currents", [CURRENTS, CURRENTS[:, :1]], ids=["block", "constant"])
def test_a_step_that_changes_its_state_is_refused_by_the_leaf(change, says, currents):
    with pytest.raises(InputError, match=f"Adder.step does not keep its state as it was: .*{says}"):
        dj.unroll(Adder(change), (), None, currents, 3)


@pytest.mark.parametrize("shape, says", [
    (lambda x: x.sum(0), r"of shape \(4,\), the current of \(2, 4\)"),
    (lambda x: x[..., None], r"of shape \(2, 4, 1\)"),
    (lambda x: (x, x), "a tuple"), (lambda x: 1.0, "a float")])
def test_an_output_that_is_not_one_value_for_each_neuron_is_refused(shape, says):
    with pytest.raises(InputError, match=f"the output of Adder.step is {says}"):
        dj.unroll(Adder(shape=shape), (), None, CURRENTS)


def test_a_neuron_without_memory_is_asked_for_the_same():
    class Sum(dj.ReLU):
        def step(self, params, state, current):
            return (), current.sum(-1)

    class Remembers(dj.ReLU):
        def step(self, params, state, current):
            return current, current

    with pytest.raises(InputError, match=r"output of Sum.step is of shape \(2, 3\), the current of \(2, 3, 4\)"):
        dj.unroll(Sum(), (), None, CURRENTS)
    with pytest.raises(InputError, match=r"Remembers.step does not keep its state as it was: the state is new"):
        dj.unroll(Remembers(), (), None, CURRENTS)


def test_a_state_of_plain_numbers_takes_the_dtype_of_the_step():
    """As `lax.scan` does: a Python float is weakly typed."""
    class Count(Adder):
        def initial_state(self, params, shape, dtype=jnp.float32):
            return State(jnp.zeros(shape, jnp.float32), 0.0)

        def step(self, params, state, current):
            return State(state.membrane + current, state.count + current.astype(jnp.bfloat16).max()), state.membrane

    state, outputs = dj.unroll(Count(), (), None, CURRENTS)
    np.testing.assert_array_equal(outputs, np.cumsum(CURRENTS, 1) - 1)
    assert state.count == 3


@pytest.mark.parametrize("found, says", [((1, 2, 3), "returns 3 values"), ([1, 2], "returns a list")])
def test_a_step_returns_a_state_and_outputs(found, says):
    @dataclasses.dataclass(frozen=True)
    class Odd(dj.LIF):
        def step(self, params, state, current):
            return found

    neuron = Odd()
    with pytest.raises(InputError, match=rf"Odd.step {says}; a step returns two, \(state, outputs\)"):
        dj.unroll(neuron, neuron.init(None, (4,)), None, CURRENTS)
