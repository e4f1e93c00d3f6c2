"""A neuron's own `step`, one timestep after the other: the reference that every kernel equals."""

from typing import Any

import jax
import jax.numpy as jnp

from ..errors import InputError
from ..types import Array, Neuron, Params, State

UNROLL = 16
"""Timesteps up to which a scan is unrolled: XLA then fuses the steps. Longer ones run as a loop of such bodies."""


def scan_steps(neuron: Neuron, params: Params, state: State, current: Array, timesteps: int) -> tuple[State, Array]:
    """Currents [B, T, N], or [B, 1, N] for a constant one -> (state after T timesteps, outputs [B, T, N]).

    Raises:
        InputError: the step does not keep its state's structure, shapes and dtypes, or its output is not [B, N].
    """
    count = min(timesteps, UNROLL)
    wide_params = _widened(params)

    def step(before, now):
        return checked_step(neuron, _like(params, wide_params), before, now)

    if current.shape[1] == 1:
        constant = current[:, 0]
        wide_constant = _widened(constant)
        state, outputs = jax.lax.scan(lambda s, _: step(s, _like(constant, wide_constant)), state, None,
                                      length=timesteps, unroll=count)
    else:
        state, outputs = jax.lax.scan(step, state, jnp.moveaxis(current, 1, 0), unroll=count)
    return state, jnp.moveaxis(outputs, 0, 1)


def _widened(tree):
    """Half precision as float32: what every step is given gets its gradient summed over the steps in this dtype."""
    def wide(x):
        half = jnp.issubdtype(jnp.result_type(x), jnp.floating) and jnp.finfo(jnp.result_type(x)).bits < 32
        return x.astype(jnp.float32) if half else x

    return jax.tree.map(wide, tree)


def _like(tree, widened):
    """The widened tree in the dtypes of the first: the same values."""
    return jax.tree.map(lambda x, wide: wide if wide is x else wide.astype(x.dtype), tree, widened)


def defined_with_step(neuron: Neuron, name: str, also: str = "step") -> bool:
    """Whether a neuron has the optional method `name`, and it belongs to its `step`, and to another method of it.

    It does not in a subclass that overrides `step` alone: what it inherits was written for another step. A class says
    by `name = None` that it does not have what it would inherit.
    """
    def depth(of):
        return next((i for i, c in enumerate(type(neuron).__mro__) if of in vars(c)), None)

    return getattr(neuron, name, None) is not None and depth(name) <= min(depth("step"), depth(also))


def checked_step(neuron: Neuron, params: Params, before: State, current: Array) -> tuple[State, Array]:
    """A neuron's step; results that the next step, or the next layer, could not take are refused by what is wrong."""
    name, found = type(neuron).__name__, neuron.step(params, before, current)
    if not isinstance(found, tuple) or len(found) != 2:
        count = f"{len(found)} values" if isinstance(found, tuple) else f"a {type(found).__name__}"
        raise InputError(f"{name}.step returns {count}; a step returns two, (state, outputs)")
    after, outputs = found
    if not hasattr(outputs, "shape") or outputs.shape != current.shape:
        kind = f"of shape {outputs.shape}" if hasattr(outputs, "shape") else f"a {type(outputs).__name__}"
        raise InputError(f"the output of {name}.step is {kind}, the current of {current.shape}; a step puts out one "
                         "value for each neuron, an array of the current's shape")
    given, returned = _leaves(before), _leaves(after)
    wrong = [f"{leaf} is new" for leaf in returned if leaf not in given]
    wrong += [f"{leaf} is missing" for leaf in given if leaf not in returned]
    for leaf in given.keys() & returned.keys():
        old, new = given[leaf], returned[leaf]
        same_dtype = old.dtype == new.dtype or old.weak_type  # `lax.scan` widens weak ones
        if old.shape != new.shape or not same_dtype:
            wrong.append(f"{leaf} came as {_kind(old)} and leaves as {_kind(new)}")
    containers: tuple[Any, Any] = jax.tree.structure(before), jax.tree.structure(after)
    if not wrong and containers[0] != containers[1]:
        wrong.append(f"{containers[0]} became {containers[1]}")
    if wrong:
        raise InputError(f"{name}.step does not keep its state as it was: {'; '.join(sorted(wrong))}. The next step is "
                         "given what this one returns, so its structure, shapes and dtypes must be those of "
                         "initial_state")
    return after, outputs


def _leaves(state):
    """{place in the state: what kind of array it is}."""
    return {jax.tree_util.keystr(path) or "the state": jax.typeof(leaf)
            for path, leaf in jax.tree_util.tree_leaves_with_path(state)}


def _kind(array):
    return f"{array.dtype}{list(array.shape)}"
