"""Each neuron is its published equation, written here once more in NumPy: values and derivatives in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dual import Dual, constant, dual, exp, log, step, through

import dietjax as dj
from dietjax import ALIF, PSN, SRM, Binary, CuBaLIF, RefractoryLIF, SigmaDelta, SlidingPSN

pytestmark = pytest.mark.usefixtures("quick_compile")

B, T, N = 2, 5, 3
ARCTAN = dj.Surrogate("arctan")  # nowhere 0, so that every spike's derivative counts


def fire(z):
    """arctan's derivative, α = 2."""
    return step(z, lambda v: 1 / (1 + (np.pi * v) ** 2))


def after(neuron, u, threshold, o):
    o = o if neuron.reset_gradient else constant(o)
    return {"subtract": lambda: u - threshold * o, "zero": lambda: u * (1 - o), "none": lambda: u}[neuron.reset]()


def alif(neuron, p, currents):
    u = a = dual(0)
    outputs = []
    for current in currents:
        u = p.leak * u + current
        threshold = p.threshold + p.adaptation * a
        o = fire(u / threshold - 1)
        u, a = after(neuron, u, threshold, o), p.adaptation_leak * a + o
        outputs.append(o)
    return outputs


def cuba(neuron, p, currents):
    u = i = dual(0)
    outputs = []
    for current in currents:
        i = p.synaptic_leak * i + current
        u = p.leak * u + i
        o = fire(u / p.threshold - 1)
        u = after(neuron, u, p.threshold, o)
        outputs.append(o)
    return outputs


def refractory(neuron, p, currents):
    u, last = dual(np.zeros((B, N))), np.full((B, N), -99)  # when it last fired
    outputs = []
    for t, current in enumerate(currents):
        ready = (t - last > neuron.period) * 1.0
        v = p.leak * u + current
        o = fire(v / p.threshold - 1) * ready
        u = ready * after(neuron, v, p.threshold, o) + (1 - ready) * u
        last = np.where(o.value > 0, t, last)
        outputs.append(o)
    return outputs


def srm(neuron, p, currents):
    """As sums over all that came before, with the kernels themselves."""
    def kernel(n, logit):
        inverse = log(1 + exp(logit))  # 1/τ
        return n * inverse * exp(1 - n * inverse)

    outputs = []
    for t in range(len(currents)):
        u = sum((kernel(t - s, p.decay_logit) * currents[s] for s in range(t)), dual(np.zeros((B, N))))
        dips = (kernel(t - s, p.refractory_logit) * (outputs[s] if neuron.reset_gradient else constant(outputs[s]))
                for s in range(t))
        u = u - p.refractoriness * p.threshold * sum(dips, dual(0))
        outputs.append(fire(u / p.threshold - 1))
    return outputs


def sigma_delta(neuron, p, currents):
    total = sent = dual(0)
    outputs = []
    for current in currents:
        total = current + total if neuron.inputs == "changes" else current
        change = through(total, lambda v: np.maximum(v, 0), lambda v: (v > 0) * 1.0) - sent
        if neuron.quantised:
            o = p.threshold * through(change / p.threshold, np.round, np.ones_like)
        else:
            o = change * fire(through(change, np.abs, np.sign) / p.threshold - 1)
        sent = sent + o
        outputs.append(o)
    return outputs


def binary(neuron, p, currents):
    return [fire(current / p.threshold - 1) for current in currents]


def psn(neuron, p, currents):
    return [fire(sum((p.weight[t, s] * currents[s] for s in range(T)), dual(0)) / p.threshold[t] - 1) for t in range(T)]


def sliding(neuron, p, currents):
    k = neuron.order
    return [fire(sum((p.weight[k - 1 - back] * currents[t - back] for back in range(min(k, t + 1))), dual(0))
                 / p.threshold - 1) for t in range(T)]


SHARED = {"surrogate": ARCTAN, "sharing": "channel"}
CASES = [(ALIF(**SHARED), alif), (CuBaLIF(**SHARED), cuba), (RefractoryLIF(period=2, **SHARED), refractory),
         (SRM(**SHARED), srm), (SigmaDelta(**SHARED), sigma_delta),
         (SigmaDelta(inputs="values", quantised=True, **SHARED), sigma_delta), (Binary(**SHARED), binary),
         (PSN(timesteps=T, surrogate=ARCTAN), psn), (SlidingPSN(order=3, **SHARED), sliding)]
CASES += [pytest.param(kind(**reset, **SHARED), equation, marks=pytest.mark.slow)
          for kind, equation in ((ALIF, alif), (CuBaLIF, cuba), (RefractoryLIF, refractory))
          for reset in ({"reset": "zero"}, {"reset": "none"}, {"reset_gradient": True},
                        {"reset": "zero", "reset_gradient": True})]
CASES += [pytest.param(SRM(reset_gradient=True, **SHARED), srm, marks=pytest.mark.slow)]
RANGES = {"leak": (0.5, 1), "threshold": (0.3, 0.7), "adaptation": (0.1, 0.5), "adaptation_leak": (0.5, 1),
          "synaptic_leak": (0.3, 0.9), "decay_logit": (-1, 1), "refractoriness": (1, 3), "refractory_logit": (-1, 1),
          "weight": (-1, 1)}


def drawn(neuron, rng):
    shapes = jax.eval_shape(lambda: neuron.init(jax.random.key(0), (N,), jnp.float64))
    return type(shapes)(**{name: rng.uniform(*RANGES[name], leaf.shape) for name, leaf in shapes._asdict().items()})


@pytest.mark.parametrize(("neuron", "equation"), CASES, ids=lambda x: getattr(x, "__name__", None))
@pytest.mark.thin(4)
def test_values_and_every_derivative_are_those_of_the_equation(x64, neuron, equation):
    rng = np.random.default_rng(3)
    params, currents, weights = drawn(neuron, rng), rng.normal(0.3, 0.6, (B, T, N)), rng.normal(size=(T, B, N))

    def loss(params, currents):
        outputs = dj.unroll(neuron, params, None, currents)[1]
        return (jnp.moveaxis(outputs, 1, 0) * weights).sum(), outputs

    gradient, outputs = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(params, currents)
    directions = rng.normal(size=(B, T, N)), jax.tree.map(lambda x: rng.normal(size=x.shape), params)
    for name in (*params._fields, "currents"):
        slopes = {field: getattr(directions[1], field) * (field == name) for field in params._fields}
        duals = type(params)(*(Dual(x, slopes[field]) for field, x in params._asdict().items()))
        along = directions[0] * (name == "currents")
        expected = equation(neuron, duals, [Dual(currents[:, t], along[:, t]) for t in range(T)])
        np.testing.assert_allclose(outputs, np.stack([o.value for o in expected], 1), atol=1e-14)
        slope = sum((w * o.slope).sum() for w, o in zip(weights, expected, strict=True))
        wanted = directions[0] * gradient[1] if name == "currents" else slopes[name] * getattr(gradient[0], name)
        assert slope != 0
        np.testing.assert_allclose(wanted.sum(), slope, rtol=1e-10)
    assert 0.1 < (np.asarray(outputs) != 0).mean() < 0.9
