"""Laws of `dietjax bench traffic`: bytes counted by hand, of programs that jax compiles and of XLA's text."""

import contextlib

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from dietjax.bench import networks, traffic
from dietjax.bench.moved import moves, unknown_loops
from dietjax.bench.places import places
from dietjax.parallel.hlo import parse

pytestmark = pytest.mark.usefixtures("quick_compile")

X = jnp.ones((64, 32))  # 8,192 bytes


def moved(function, *arguments):
    """Bytes of a function, compiled here."""
    return sum(move.bytes for move in moves(parse(jax.jit(function).lower(*arguments).compile().as_text())))


# ---- what jax compiles


@pytest.mark.parametrize("function, arguments, by_hand", [
    (lambda x: x * 2, [X], 2 * 8192),
    (lambda x: x.T + 1, [X], 2 * 8192),
    (lambda x: x @ x.T, [X], 8192 + 64 * 64 * 4),
    (lambda x, y: x[:8] + y, [X, X[:8]], 3 * 1024),
    (lambda x: x[:8] * 2 + x[8:16], [X], 2 * 1024 + 1024),
    (lambda x: x[:8] * 2 + x[:8], [X], 1024 + 1024),
    (lambda x, i: lax.dynamic_slice_in_dim(x, i, 1) * 2 + 1, [X, 3], 128 + 4 + 128),
], ids=["product with a number", "transposed", "matrix product", "slice and all", "two slices", "a slice twice",
        "slice at a place that is given"])
def test_what_is_read_and_written_once(function, arguments, by_hand):
    assert moved(function, *arguments) == by_hand


def test_a_sum_reads_all_and_writes_little():
    """XLA's own count agrees: `x * 2` is written, read by a sum in parts, and these by another."""
    program = jax.jit(lambda x: (x * 2).sum()).lower(X).compile()
    found = sum(move.bytes for move in moves(parse(program.as_text())))
    assert 8192 < found < 4 * 8192 and found == program.cost_analysis()["bytes accessed"]


def test_a_loop_counts_as_often_as_it_turns():
    """7 turns read and write all of x, after one copy of it; counters of 4 bytes are noise."""
    body = 2 * 8192
    found = moved(lambda x: lax.fori_loop(0, 7, lambda i, x: jnp.sin(x) * 2, x), X)
    assert 8 * body <= found < 8 * body + 200
    module = parse(jax.jit(lambda x, n: lax.fori_loop(0, n, lambda i, x: jnp.sin(x) * 2, x)).lower(X, 7)
                   .compile().as_text())
    assert unknown_loops(module) == 1
    assert 2 * body <= sum(move.bytes for move in moves(module)) < 2 * body + 200


def test_a_loop_that_reads_and_writes_a_row_at_a_time_moves_rows():
    """64 turns read a row and write one in place, into 8,192 bytes that are filled first; counters: 16 bytes a turn."""
    found = moved(lambda x: lax.scan(lambda c, row: (c, row * 2 + 1), 0.0, x)[1], X)
    assert 3 * 8192 <= found < 3 * 8192 + 64 * 32


# ---- what only accelerators' compilers write

GPU = """HloModule jit_f, is_scheduled=true

%fused_scale (p: bf16[8,4]) -> (bf16[8,4], f32[8,4]) {
  %p = bf16[8,4]{1,0} parameter(0)
  %n = bf16[8,4]{1,0} negate(%p), metadata={op_name="jit(f)/jvp(Network)/conv1/neuron/neg"}
  %c = f32[8,4]{1,0} convert(%n), metadata={op_name="jit(f)/jvp(Network)/conv1/neuron/convert_element_type"}
  ROOT %t = (bf16[8,4]{1,0}, f32[8,4]{1,0}) tuple(%n, %c)
}

%then (q: f32[8,4]) -> f32[8,4] {
  %q = f32[8,4]{1,0} parameter(0)
  ROOT %r = f32[8,4]{1,0} negate(%q)
}

%otherwise (q.1: f32[8,4]) -> f32[8,4] {
  %q.1 = f32[8,4]{1,0} parameter(0)
  %a = f32[8,4]{1,0} negate(%q.1)
  ROOT %r.1 = f32[8,4]{1,0} negate(%a)
}

ENTRY %main (x: bf16[8,4], k: bf16[4,4], i: pred[]) -> f32[8,4] {
  %x = bf16[8,4]{1,0} parameter(0)
  %k = bf16[4,4]{1,0} parameter(1)
  %i = pred[] parameter(2)
  %conv = (bf16[8,4]{1,0}, u8[4096]{0}) custom-call(%x, %k), custom_call_target="__cudnn$convForward", metadata={op_name="jit(f)/jvp(Network)/conv1/synapse/conv_general_dilated"}
  %get = bf16[8,4]{1,0} get-tuple-element(%conv), index=0
  %fusion = (bf16[8,4]{1,0}, f32[8,4]{1,0}) fusion(%get), kind=kLoop, calls=%fused_scale, metadata={op_name="jit(f)/jvp(Network)/conv2/synapse/reshape"}
  %wide = f32[8,4]{1,0} get-tuple-element(%fusion), index=1
  %copy = f32[8,4]{0,1} copy(%wide)
  %start = (f32[8,4]{1,0}, f32[8,4]{0,1}) all-reduce-start(%copy), to_apply=%then
  %done = f32[8,4]{1,0} all-reduce-done(%start)
  ROOT %branch = f32[8,4]{1,0} conditional(%i, %done, /*index=2*/%done), true_computation=%then, false_computation=%otherwise
}
"""  # noqa: E501


def test_a_gpu_s_program():
    """A library's call without its workspace, a fusion with two results, what is awaited once, the costlier branch."""
    module = parse(GPU)
    found = {move.instruction.name: move.bytes for move in moves(module)}
    assert found == {"conv": 64 + 32 + 64, "fusion": 64 + 64 + 128, "copy": 256, "done": 256, "a": 256, "r.1": 256}
    belongs = places(module, ("conv1", "conv2"))["main"]
    assert belongs["conv"] == ("conv1", "synapse", False)
    assert belongs["fusion"] == ("conv1", "neuron", False), "by what computes in it"
    assert belongs["copy"] == belongs["fusion"], "where what it reads was made"


LOOP = """HloModule jit_f

%body (s: (s32[], f32[4])) -> (s32[], f32[4]) {
  %s = (s32[], f32[4]{0}) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %x = f32[4]{0} get-tuple-element(%s), index=1
  %y = f32[4]{0} negate(%x)
  ROOT %t = (s32[], f32[4]{0}) tuple(%i, %y)
}

%more (s.1: (s32[], f32[4])) -> pred[] {
  %s.1 = (s32[], f32[4]{0}) parameter(0)
  ROOT %c = pred[] constant(true)
}

ENTRY %main (x.1: f32[4]) -> f32[4] {
  %x.1 = f32[4]{0} parameter(0)
  %zero = s32[] constant(0)
  %first = (s32[], f32[4]{0}) tuple(%zero, %x.1)
  %w = (s32[], f32[4]{0}) while(%first), condition=%more, body=%body, metadata={op_name="jit(f)/transpose(jvp(Network))/fc1/neuron/while"}, backend_config={"known_trip_count":{"n":"6"}}
  ROOT %out = f32[4]{0} get-tuple-element(%w), index=1
}
"""  # noqa: E501


def test_what_has_no_name_in_a_loop_belongs_where_the_loop_does():
    module = parse(LOOP)
    (move,) = moves(module)
    assert (move.instruction.name, move.times, move.bytes) == ("y", 6, 6 * 32)
    assert places(module, ("fc1",))["body"]["y"] == ("fc1", "neuron", True)


def test_a_counter_says_how_often_a_loop_turns():
    """From 0 in steps of 3 while it is below 7: at 0, 3 and 6."""
    silent = LOOP.replace(', backend_config={"known_trip_count":{"n":"6"}}', "")
    assert unknown_loops(parse(silent)) == 1 and [move.times for move in moves(parse(silent))] == [1]
    counted = parse(silent.replace("tuple(%i, %y)", "tuple(%next, %y)").replace(
        "  %y =", "  %three = s32[] constant(3)\n  %next = s32[] add(%i, %three)\n  %y =").replace(
        "%c = pred[] constant(true)", "%c = pred[] compare(%j, %end), direction=LT").replace(
        "  ROOT %c =", "  %j = s32[] get-tuple-element(%s.1), index=0\n  %end = s32[] constant(7)\n  ROOT %c ="))
    assert unknown_loops(counted) == 0
    assert {move.instruction.name: move.bytes for move in moves(counted)} == {"next": 3 * 12, "y": 3 * 32}


TPU = """HloModule jit_f, is_scheduled=true

%first (u: bf16[1,64]) -> bf16[16,64] {
  %buffer = bf16[16,64]{1,0:T(8,128)(2,1)} custom-call(), custom_call_target="AllocateBuffer"
  %u = bf16[1,64]{1,0:T(8,128)(2,1)S(1)} parameter(0)
  %zero = s32[] constant(0)
  ROOT %d = bf16[16,64]{1,0:T(8,128)(2,1)} dynamic-update-slice(%buffer, %u, %zero, %zero)
}

%more (b: bf16[16,64], v: bf16[1,64]) -> bf16[16,64] {
  %b = bf16[16,64]{1,0:T(8,128)(2,1)} parameter(0)
  %v = bf16[1,64]{1,0:T(8,128)(2,1)S(1)} parameter(1)
  %one = s32[] constant(1)
  %two = s32[] constant(2)
  %d.1 = bf16[16,64]{1,0:T(8,128)(2,1)} dynamic-update-slice(%b, %v, %one, %one)
  ROOT %d.2 = bf16[16,64]{1,0:T(8,128)(2,1)} dynamic-update-slice(%d.1, %v, %two, %one)
}

ENTRY %main (x: bf16[16,64], k: f32[64,128]) -> f32[16,128] {
  %x = bf16[16,64]{1,0:T(8,128)(2,1)} parameter(0)
  %k = f32[64,128]{1,0:T(8,128)} parameter(1)
  %s = (bf16[16,64]{1,0:T(8,128)(2,1)S(1)}, bf16[16,64]{1,0:T(8,128)(2,1)}, u32[]{:S(2)}) copy-start(%x)
  %near = bf16[16,64]{1,0:T(8,128)(2,1)S(1)} copy-done(%s)
  %row = bf16[1,64]{1,0:T(8,128)(2,1)S(1)} slice(%near), slice={[0:1], [0:64]}
  %f1 = bf16[16,64]{1,0:T(8,128)(2,1)} fusion(%row), kind=kLoop, calls=%first
  %f2 = bf16[16,64]{1,0:T(8,128)(2,1)} fusion(%f1, %row), kind=kLoop, calls=%more
  %part = ((bf16[16,64]{1,0}), bf16[8,64]{1,0:T(8,128)(2,1)S(1)}, u32[]) slice-start(%f2), slice={[0:8], [0:64]}
  %half = bf16[8,64]{1,0:T(8,128)(2,1)S(1)} slice-done(%part)
  %whole = bf16[16,64]{1,0:T(8,128)(2,1)S(1)} custom-call(%half, %half), custom_call_target="ConcatBitcast"
  ROOT %y = f32[16,128]{1,0:T(8,128)} convolution(%whole, %k), dim_labels=bf_io->bf, metadata={op_name="jit(f)/jvp(Network)/fc1/synapse/dot_general"}, backend_config={"estimated_cycles":"1826"}
}
"""  # noqa: E501


def test_a_tpu_s_program():
    """64 columns are padded to 128; what lies on the chip costs nothing; a row that is put in its place is written, and
    its array, with contents or without, not read; a copy onto the chip is the reading of whom it serves.
    """
    module = parse(TPU)
    found = {move.instruction.name: move for move in moves(module)}
    padded = 16 * 128 * 2
    assert {name: move.bytes for name, move in found.items()} == {
        "near": padded, "row": 0, "f1": 256, "f2": 2 * 256, "half": padded // 2, "y": 64 * 128 * 4 + 16 * 128 * 4}
    assert {name: move.cycles for name, move in found.items() if move.cycles} == {"y": 1826}
    assert traffic.asked_by(found["half"]).name == "y" and traffic.asked_by(found["y"]).name == "y"
    assert traffic.asked_by(found["near"]).name == "row"


# ---- a network


SUBJECT = networks.Subject("VGG4", (8, 8, 1), 10, (16,), 2, width=0.125)


def test_passes_that_there_have_to_be():
    """By hand, T=5: the first layer's current is there once, and its pool leaves a quarter; the ANN's is always new."""
    ann, net = SUBJECT.networks("bfloat16")
    conv1, conv2 = net.connections()[:2]
    assert conv1.out_shape == (8, 8, conv1.kernel[-1]) and conv2.in_shape == (4, 4, conv1.kernel[-1])
    maps = traffic.layer_maps(net, 2, 5)
    assert maps["conv1"] == (2 * 5 * 64 * conv1.kernel[-1] * 2, pytest.approx(3 / 5 + 3 / 4))
    assert maps["conv2"][1] == 3 + 3 / 4 and maps["fc1"] == (2 * 5 * net.layers[2].features * 2, 6)
    assert "fc2" not in maps
    assert traffic.layer_maps(ann, 10, 1)["conv1"] == (maps["conv1"][0], 3 + 3 / 4)
    wide = SUBJECT.networks("float32")[1]
    assert traffic.layer_maps(wide, 2, 5)["conv1"][0] == 2 * maps["conv1"][0]


@pytest.fixture(scope="module")
def programs():
    """What was compiled for `result`."""
    return []


@pytest.fixture(scope="module")
def result(programs, quick_compile):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(traffic, "parse", lambda text: programs.append(parse(text)) or programs[-1])
        return traffic.traffic(SUBJECT, 1, "bfloat16")


def test_layers_add_up_and_none_is_below_its_floor(result):
    """On a CPU no map stays on the chip, so no layer can move less than it has to."""
    rows = {row["layer"]: row for row in result.rows}
    assert list(rows) == ["conv1", "conv2", "fc1", "fc2", "SNN, total", "ANN, total"]
    for column in ("products MB", "weights MB", "others MB", "copies MB", "float32 MB"):
        assert rows["SNN, total"][column] == pytest.approx(sum(row[column] for row in result.rows[:4]))
    for row in result.rows[:3]:
        assert row["passes"] >= row["floor"] > 0 and row["products MB"] > 0
        assert row["forward"] > 0 and row["backward"] > 0
        assert row["passes"] * row["map MB"] == pytest.approx(row["others MB"])
        assert row["float32 MB"] > 0, "membranes"
    assert rows["fc2"]["passes"] is None
    assert all("of temporaries" in note for note in result.notes)


def test_what_the_layers_move_is_what_the_program_moves(result, programs):
    """Nothing is counted twice or left out, whatever layer is charged with it."""
    for row, module in zip(result.rows[-2:], programs, strict=True):
        total = sum(move.bytes for move in moves(module))
        assert 1e6 * sum(row[f"{part} MB"] for part in ("products", "weights", "others")) == pytest.approx(total)


@pytest.mark.slow
def test_a_step_as_training_runs_it_adds_dropout_and_rates():
    subject = networks.Subject("VGG6", (8, 8, 1), 10, (16,), 2, width=0.125)
    (bare, full) = ({row["layer"]: row for row in traffic.traffic(subject, 2, "bfloat16", as_trained=trained).rows}
                    for trained in (False, True))
    dropped = {layer.name for layer in subject.networks("bfloat16", dropout=True)[1].layers if layer.dropout}
    assert dropped and not any(layer.dropout for layer in subject.networks("bfloat16")[1].layers)
    spiking = {layer.name for layer in subject.networks("bfloat16")[1].layers[:-1]}
    assert dropped < spiking
    for name in spiking:  # each has a rate, which is read from its spikes
        assert full[name]["others MB"] > bare[name]["others MB"]
        assert full[name]["floor"] == bare[name]["floor"] and full[name]["map MB"] == bare[name]["map MB"]


@pytest.mark.slow
def test_scopes_change_nothing_that_is_computed(monkeypatch):
    """The program that XLA is given, which holds no names of ours, is the one that no scope was opened for."""
    net = networks.Subject("VGG4", (8, 8, 1), 10, (8,), 1, width=0.125).networks("float32")[1]
    variables = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 8, 8, 1)))

    def program():
        jax.clear_caches()
        step = jax.jit(networks.training(net, 2, {}))
        return step.lower(variables, jnp.zeros((1, 8, 8, 1)), jnp.zeros(1, int)).as_text()

    named = program()
    opened = []
    monkeypatch.setattr("dietjax.models.forward._part", lambda *names: opened.append(names) or contextlib.nullcontext())
    assert program() == named
    assert {("conv1", "synapse"), ("conv1", "neuron"), ("conv1", "pool"), ("fc2", "neuron")} <= set(opened)
