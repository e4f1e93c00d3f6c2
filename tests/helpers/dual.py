"""Numbers with a derivative, in NumPy: an equation written once gives its value and its derivative along a direction.

Forward mode by hand (Griewank & Walther, "Evaluating Derivatives", 2008, chapter 3), so that gradients are compared
with something that knows neither jax nor our neurons.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Dual:
    """A value and its derivative along one direction."""

    value: np.ndarray
    slope: np.ndarray

    __array_priority__ = 1000  # before NumPy's own operators

    def __add__(self, other):
        other = dual(other)
        return Dual(self.value + other.value, self.slope + other.slope)

    def __mul__(self, other):
        other = dual(other)
        return Dual(self.value * other.value, self.slope * other.value + self.value * other.slope)

    def __truediv__(self, other):
        other = dual(other)
        value = self.value / other.value
        return Dual(value, (self.slope - value * other.slope) / other.value)

    def __neg__(self):
        return self * -1.0

    def __sub__(self, other):
        return self + -dual(other)

    def __rsub__(self, other):
        return dual(other) + -self

    def __rtruediv__(self, other):
        return dual(other) / self

    __radd__, __rmul__ = __add__, __mul__

    def __getitem__(self, index):
        return Dual(self.value[index], self.slope[index])


def dual(x):
    """A constant, where it is none yet."""
    return x if isinstance(x, Dual) else Dual(np.asarray(x, float), np.zeros(np.shape(x)))


def through(x, function, derivative):
    """`function(x)`, by the chain rule."""
    return Dual(function(x.value), derivative(x.value) * x.slope)


def constant(x):
    """Without its derivative."""
    return dual(x.value)


def exp(x):
    """The exponential function."""
    return through(x, np.exp, np.exp)


def log(x):
    """The natural logarithm."""
    return through(x, np.log, lambda v: 1 / v)


def step(z, surrogate):
    """1 where z > 0, else 0, with the surrogate's derivative."""
    return through(z, lambda v: (v > 0) * 1.0, surrogate)
