"""Laws of repeated calls: N in one program are N times the work of one, in turn, and give what one gives."""

import importlib.util
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dietjax.bench import amortise, measure, networks, peers
from dietjax.bench.amortise import Repeatable
from dietjax.bench.cells import neuron
from dietjax.bench.measure import Call


def both(x, w):
    return x @ w, {"sum": jnp.sin(x).sum(0)}


ARGUMENTS = np.arange(12.0, dtype=np.float32).reshape(4, 3), np.ones((3, 5), np.float32)


@pytest.fixture
def on_an_accelerator(monkeypatch):
    monkeypatch.setattr(amortise, "amortises", lambda: True)


def test_repeated_calls_give_what_one_gives():
    product, rest = jax.jit(amortise.repeated(both, 3))(*ARGUMENTS)
    np.testing.assert_allclose(product, ARGUMENTS[0] @ ARGUMENTS[1])
    np.testing.assert_allclose(rest["sum"], np.sin(ARGUMENTS[0]).sum(0), rtol=1e-5)


def test_every_call_is_made():
    """Counted as it runs, not by what the compiler says of its program."""
    made = []

    def counted(x):
        jax.debug.callback(lambda x: made.append(float(x)), x.sum())
        return x + 1

    jax.block_until_ready(jax.jit(amortise.repeated(counted, 7))(jnp.ones(3)))
    jax.effects_barrier()
    assert made == [3.0] * 7


def test_the_compiled_loop_holds_the_whole_call_and_nothing_of_it_stands_outside():
    """Its operations are in the loop's body alone, which hands on both outputs whole, and knows how often it runs."""
    text = jax.jit(amortise.repeated(both, 7)).lower(*ARGUMENTS).compile().as_text()
    assert re.search(r'known_trip_count":\{"n":"7"\}', text)
    loop, = re.findall(r"= (\([^=]*\)) while\(.*body=%([\w.]+)", text)
    assert all(shape in loop[0] for shape in ("f32[4,5]", "f32[3]", "f32[4,3]", "f32[3,5]"))
    entry = text[text.index("ENTRY"):]
    for operation in (r"while/body[^\"]*/dot_general\"", r"while/body[^\"]*/sin\""):
        assert re.search(operation, text) and not re.search(operation, entry)


def test_before_it_is_compiled_the_next_call_s_arguments_wait_for_all_that_the_last_gave():
    text = jax.jit(amortise.repeated(both, 7)).lower(*ARGUMENTS).as_text()
    line, = (line for line in text.splitlines() if "optimization_barrier" in line)
    for shape in ("4x3xf32", "3x5xf32", "4x5xf32", "tensor<3xf32>"):  # both arguments, both outputs
        assert shape in line


@pytest.mark.parametrize("single, launching, calls", [
    (75.0, 0.0, 1), (0.35, 0.2, 500), (200.0, 0.2, 1), (0.2, 0.2, 5000), (0.1, 0.2, 5000), (30.0, 5.0, 3)])
def test_as_many_calls_as_fill_a_measurement(monkeypatch, single, launching, calls):
    """75 ms over what a call takes beyond its launch, from 1 to 5000."""
    monkeypatch.setattr(amortise, "_fastest", lambda run: single)
    assert amortise.calls_for(None, launching) == calls


def test_times_are_those_of_one_call_and_the_launch_stands_beside_them(monkeypatch, on_an_accelerator):
    now, asked = [0.0], []
    monkeypatch.setattr(measure.time, "perf_counter", lambda: now[0])

    def take(seconds):
        now[0] += seconds

    def times(count):
        asked.append(count)
        return lambda: take(0.001 * count + 0.0005)

    short = Repeatable(lambda: take(0.0015), times, lambda: 0.5)
    peer = Repeatable(lambda: take(0.150), times)
    rows = measure.alternate([Call({"what": "ours"}, short), Call({"what": "theirs"}, peer)], 3)
    assert asked == [75]  # 75 ms, 1 ms each; a call of 150 ms is made as it is
    assert [(row["calls"], row["launch ms"]) for row in rows] == [(75, 0.5), (1, None)]
    assert [row["ms"] for row in rows] == pytest.approx([1 + 0.5 / 75, 150])


def test_on_a_cpu_a_call_is_one_call():
    run = Repeatable(lambda: None, lambda count: pytest.fail("it is repeated"))
    assert amortise.amortised(run).count == 1
    row, = measure.alternate([Call({"what": "ours"}, run)], 1)
    assert "calls" not in row and "launch ms" not in row


def test_the_neuron_s_bandwidth_and_share_are_of_repeated_calls(monkeypatch, on_an_accelerator, quick_compile):
    """A copy moves 2 blocks, LIF 5, of 2 × 3 × 8 numbers of 2 bytes."""
    monkeypatch.setattr(amortise, "calls_for", lambda run, launching: 4)
    copy, lif = neuron(2, 8, [3], ["xla"], ["bfloat16"], 1).rows
    assert copy["calls"] == lif["calls"] == 4 and copy["launch ms"] > 0
    assert copy["GB/s"] == pytest.approx(2 * 96 / (copy["ms"] * 1e6))
    assert lif["GB/s"] == pytest.approx(5 * 96 / (lif["ms"] * 1e6))
    assert lif["share"] == pytest.approx(lif["GB/s"] / copy["GB/s"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what other libraries warn of is their own matter
@pytest.mark.parametrize("train", [True, False])
def test_networks_and_peers_are_repeated_alike(monkeypatch, on_an_accelerator, train):
    """As on an accelerator: of a peer on torch nothing says what a start takes."""
    monkeypatch.setattr(amortise, "calls_for", lambda run, launching: 2)
    there = [name for name in peers.NAMES if importlib.util.find_spec(name)]
    subject = networks.Subject("VGG4", (8, 8, 1), 10, (8,), 2)
    rows = networks.compare(subject, (2,), train=train, peers=there, runs=1).rows
    assert [row["calls"] for row in rows] == [2] * (3 + len(there))  # a matrix product, the ANN, the SNN
    assert [row["launch ms"] is None for row in rows] == [False] * 3 + [name != "spyx" for name in there]
