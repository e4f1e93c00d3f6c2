"""Laws of dietjax.checkpoint: what comes back is what was saved, bit for bit, or an error says so."""

import asyncio
import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from dietjax.checkpoint import step as step_files
from dietjax.checkpoint.manager import Checkpoints, SaveError
from dietjax.checkpoint.tree import CheckpointError
from dietjax.parallel import processes

# tensorstore's threads report a failed read to an event loop that orbax has already closed.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class Neuron(NamedTuple):
    leak: Any
    threshold: Any


def make_state(seed: int, width: int = 5) -> dict[str, Any]:
    keys = jax.random.split(jax.random.key(seed), 4)
    params = {
        "conv/0.kernel": jax.random.normal(keys[0], (3, width)),
        "neuron": Neuron(jax.random.normal(keys[1], ()), jax.random.normal(keys[2], (width,), jnp.bfloat16)),
    }
    optimizer = optax.chain(optax.clip(1.0), optax.inject_hyperparams(optax.adamw)(1e-3))
    return {
        "params": params,
        "opt": optimizer.init(params),
        "key": jax.random.key_data(keys[3]),
        "epoch": 7 + seed,
        "best": 0.1 + seed,
        "done": False,
        "float64": np.random.default_rng(seed).normal(size=4),
        "transposed": np.arange(6.0, dtype=np.float32).reshape(2, 3).T,
        "scalar": np.int32(seed),
        "empty": jnp.zeros((0, 3)),
        "special": np.array([np.nan, -0.0, np.inf], ml_dtypes.bfloat16),
        "nothing": None,
        "layers": [(jnp.ones(2), jnp.arange(3))],
    }


def assert_same(actual: Any, expected: Any) -> None:
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for got, want in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert type(got) is type(want)
        assert np.asarray(got).dtype == np.asarray(want).dtype
        assert np.asarray(got).tobytes() == np.asarray(want).tobytes()
        if isinstance(want, jax.Array):
            assert got.committed == want.committed and got.sharding == want.sharding


def small_state(seed: int) -> dict[str, Any]:
    values = np.random.default_rng(seed).normal(size=6).astype(np.float32)
    return {"params": Neuron(np.float32(seed), values), "epoch": seed}


def test_round_trip_is_bit_for_bit_with_types(tmp_path):
    state = make_state(0)
    with Checkpoints(tmp_path / "run") as checkpoints:
        checkpoints.save(3, state, {"config": {"lr": 0.1, "milestones": [1, 2]}, "name": "λ"}, metric=0.5)
        restored, metadata, step = checkpoints.restore(make_state(1))
    assert_same(restored, state)
    assert isinstance(restored["params"]["neuron"], Neuron)
    assert (metadata, step) == ({"config": {"lr": 0.1, "milestones": [1, 2]}, "name": "λ"}, 3)


def test_another_process_restores_into_an_abstract_target(tmp_path):
    params = make_state(0)["params"]
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, params, {})
    with Checkpoints(tmp_path) as checkpoints:
        restored, _, _ = checkpoints.restore(jax.eval_shape(lambda: make_state(0)["params"]))
    assert_same(restored, params)


def test_a_single_array_is_a_state(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, jnp.arange(3), {})
        assert_same(checkpoints.restore(jnp.zeros(3, jnp.int32))[0], jnp.arange(3))
        with pytest.raises(CheckpointError, match="the state is int32"):
            checkpoints.restore(jnp.zeros(3))


def test_float64_arrays_are_neither_cast_on_the_way_out_nor_back(tmp_path):
    with jax.enable_x64(True):
        state = {"w": jnp.arange(3, dtype=jnp.float64) / 3}
        target = jax.eval_shape(lambda: state)
        with Checkpoints(tmp_path) as checkpoints:
            checkpoints.save(1, state, {})
            assert_same(checkpoints.restore(target)[0], state)
    with Checkpoints(tmp_path) as checkpoints:
        assert_same(checkpoints.restore({"w": np.zeros(3)})[0], {"w": np.arange(3) / 3})
        with pytest.raises(CheckpointError, match="jax_enable_x64"):
            checkpoints.restore(target)


def test_a_state_is_placed_by_the_target_whatever_the_devices_at_saving(tmp_path):
    if len(jax.devices()) < 2:
        pytest.skip("one device")
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    state = {"w": jnp.arange(8.0)}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, {})
        split = checkpoints.restore({"w": jax.ShapeDtypeStruct((8,), jnp.float32, sharding=rows)})[0]
        assert split["w"].sharding == rows
        checkpoints.save(2, split, {})
        assert_same(checkpoints.restore(state)[0], state)


def test_arrays_overwritten_after_save_do_not_change_the_checkpoint(tmp_path):
    state = {"w": np.arange(1000.0), "x": jnp.arange(1000.0)}
    expected = jax.tree.map(np.array, state)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, {})
        state["w"][:] = -1
        jax.block_until_ready(jax.jit(lambda x: x * 2, donate_argnums=0)(state["x"]))
        assert_same(checkpoints.restore(expected)[0], expected)


def test_the_latest_and_the_best_are_kept(tmp_path):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert checkpoints.best_step() is None
        for step, metric in enumerate([0.1, 0.9, 0.9, 0.2, None]):
            checkpoints.save(step, small_state(step), {}, metric=metric)
        assert (checkpoints.latest_step(), checkpoints.best_step()) == (4, 2)
    with Checkpoints(tmp_path, keep=2) as checkpoints:  # the metrics are read back from disk
        checkpoints.save(5, small_state(5), {}, metric=0.3)
        assert (checkpoints.latest_step(), checkpoints.best_step()) == (5, 2)
        assert_same(checkpoints.restore(small_state(0), step=2)[0], small_state(2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "4", "5"]


def flip(file: Path, position: int, bit: int = 4) -> None:
    content = bytearray(file.read_bytes())
    content[position] ^= 1 << bit
    file.write_bytes(content)


def test_a_flipped_byte_is_detected_in_every_file(tmp_path):
    metadata = {"phase": "λ", "epochs": 12}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, small_state(1), metadata, metric=0.1)
        checkpoints.save(2, small_state(2), metadata, metric=0.2)
    files = sorted(path for path in (tmp_path / "2").rglob("*") if path.is_file())
    assert len(files) > 12 and all(file.stat().st_size for file in files)
    rng = np.random.default_rng(0)
    says = "step 2 .* is damaged: .*{} does not match its checksum"
    with Checkpoints(tmp_path) as checkpoints:
        for file in files:
            sound, name = file.read_bytes(), file.relative_to(tmp_path / "2").as_posix()
            for position in (0, int(rng.integers(len(sound))), len(sound) - 1):
                flip(file, position, int(rng.integers(8)))
                with pytest.raises(CheckpointError, match=says.format(name)):
                    checkpoints.restore(small_state(0), step=2)
                file.write_bytes(sound)
        with pytest.warns(UserWarning, match="step 2 .* is damaged.*step 1 is used"):
            flip(files[-1], 0)
            assert_same(checkpoints.restore(small_state(0))[0], small_state(1))


@pytest.mark.parametrize("lost", ["missing", "has .* bytes instead of"])
def test_a_file_that_is_lost_or_cut_off_is_named(tmp_path, lost):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, small_state(1), {})
        checkpoints.wait()
        file = tmp_path / "1" / "_CHECKPOINT_METADATA"  # nothing reads it
        if lost == "missing":
            file.unlink()
        else:
            file.write_bytes(file.read_bytes()[:-1])
        with pytest.raises(CheckpointError, match=rf"step 1 .* is damaged: .*{file.name} (is )?{lost}"):
            checkpoints.restore(small_state(0))


def test_without_a_list_of_files_the_state_comes_back_and_every_flipped_byte_of_its_values_is_detected(tmp_path):
    # So are checkpoints of before there was one, and one whose writer was killed when all but the list was written.
    # Bytes that do not compress lie in the file as they are, where only the values' own checksum can notice a change.
    values = np.random.default_rng(0).integers(0, 256, 4096).astype(np.uint8)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, values, {})
        checkpoints.wait()
        (tmp_path / "1" / "manifest.json").unlink()
        file = max((p for p in (tmp_path / "1" / "state").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
        content = file.read_bytes()
        start = content.index(values.tobytes())
        for position in start + np.random.default_rng(1).integers(0, values.size, 20):
            damaged = bytearray(content)
            damaged[position] ^= 16
            file.write_bytes(damaged)
            with pytest.raises(CheckpointError, match=r"values of .* do not match their checksum"):
                checkpoints.restore(values)
        file.write_bytes(content)
        assert_same(checkpoints.restore(values)[0], values)


def test_a_run_resumed_before_a_damaged_step_saves_that_step_again(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, small_state(1), {})
        checkpoints.save(2, small_state(2), {})
    shutil.rmtree(tmp_path / "2" / "state")
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.warns(UserWarning, match="step 2 .* is damaged"):
            assert checkpoints.restore(small_state(0))[2] == 1
        checkpoints.save(2, small_state(3), {})
        restored, _, step = checkpoints.restore(small_state(0))
    assert step == 2
    assert_same(restored, small_state(3))


@pytest.mark.parametrize("reads, error", [
    ("read_record", OSError(errno.ESTALE, "Stale file handle")),
    ("read_record", OSError(errno.EMFILE, "Too many open files")),
    ("_read_arrays", ValueError("RESOURCE_EXHAUSTED: Out of memory")),
    ("_read_arrays", ValueError("anything, when every file is as it was written")),
])
def test_what_the_machine_cannot_read_now_is_not_given_up_for_damaged(tmp_path, monkeypatch, reads, error):
    def fails(*_):
        raise error

    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, small_state(step), {})
        with monkeypatch.context() as patch:
            patch.setattr(step_files, reads, fails)
            says = rf"step 2 in {tmp_path} could not be read: .*{re.escape(str(error))}.*nothing was removed"
            with pytest.raises(CheckpointError, match=says):
                checkpoints.restore(small_state(0))
        assert checkpoints.restore(small_state(0))[2] == 2
        checkpoints.save(3, small_state(3), {})
    assert (tmp_path / "2").is_dir()


def test_a_step_that_others_list_and_this_process_does_not_see_is_no_damage(tmp_path, monkeypatch):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, small_state(1), {})
        checkpoints.wait()
        monkeypatch.setattr(processes, "broadcast", lambda text: "[1, 2]")  # as process 0 lists them
        with pytest.raises(CheckpointError, match=r"step 2 .* process 0 does not see it: all need the one directory"):
            checkpoints.restore(small_state(0))


def test_when_all_are_damaged_all_are_named(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, small_state(step), {})
    for step in ("1", "2"):
        (tmp_path / step / "metadata" / "metadata").write_bytes(b"")
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(CheckpointError, match=r"(?s)step 2.*step 1"):
        checkpoints.restore(small_state(0))


def test_reading_from_a_wrong_path_creates_nothing(tmp_path):
    with Checkpoints(tmp_path / "none") as checkpoints:
        assert checkpoints.restore(small_state(0)) is None
        assert checkpoints.latest_step() is None
        assert checkpoints.best_step() is None
        with pytest.raises(CheckpointError, match="no step 1"):
            checkpoints.restore(small_state(0), step=1)
    assert not (tmp_path / "none").exists()


def test_saving_an_existing_or_earlier_step_is_an_error(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(2, small_state(2), {}, metric=0.1)
        for step in (2, 1):
            with pytest.raises(CheckpointError, match=f"step {step} is not after step 2"):
                checkpoints.save(step, small_state(5), {}, metric=0.9)
        assert_same(checkpoints.restore(small_state(0))[0], small_state(2))


def test_what_cannot_be_saved_is_an_error_at_once(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(CheckpointError, match=r"'name'.* is a str"):
            checkpoints.save(1, {"name": "vgg"}, {})
        with pytest.raises(TypeError, match="JSON"):
            checkpoints.save(1, small_state(1), {"path": Path("x")})
        with pytest.raises(CheckpointError, match="key_data"):
            checkpoints.save(1, {"key": jax.random.key(0)}, {})
        with pytest.raises(CheckpointError, match="metric"):
            checkpoints.save(1, small_state(1), {}, metric=float("nan"))
        assert checkpoints.restore(small_state(0)) is None
        checkpoints.save(1, small_state(1), {})


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"epoch": np.int64(0)}, r"'epoch'.* is Python int\[\] in the checkpoint, int64\[\] in the target"),
        (
            {"params": Neuron(np.float32(0), np.zeros(7, np.float32))},
            r"'params'.*threshold is float32\[6\].*float32\[7\]",
        ),
        ({"params": Neuron(np.float32(0), np.zeros(6, np.float16))}, r"threshold is float32\[6\].*float16\[6\]"),
        ({"extra": np.zeros(2)}, r"'extra'.* is absent in the checkpoint"),
        ({"params": None}, r"leak is float32\[\] in the checkpoint, absent in the target"),
    ],
)
def test_a_checkpoint_of_another_network_names_the_difference(tmp_path, change, match):
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, small_state(step), {})
        with pytest.raises(CheckpointError, match=r"step 2 .*another network.*" + match):
            checkpoints.restore(small_state(0) | change)


def test_an_error_of_a_background_save_surfaces(tmp_path, monkeypatch):
    async def fail(*_):
        await asyncio.sleep(0.1)  # so that the arrays are written, and no thread is left to disturb the next save
        raise OSError("disk full")

    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, small_state(1), {})
    checkpoints.wait()
    calls = (checkpoints.wait, lambda: checkpoints.save(9, small_state(9), {}), checkpoints.close)
    for step, surfaces in enumerate(calls, start=2):
        with monkeypatch.context() as patch:
            patch.setattr(ocp.JsonCheckpointHandler, "_save_fn", fail)
            checkpoints.save(step, small_state(step), {})
            with pytest.raises(OSError, match="disk full"):
                surfaces()
    with Checkpoints(tmp_path) as checkpoints:
        assert_same(checkpoints.restore(small_state(0))[0], small_state(1))
        checkpoints.save(2, small_state(2), {})
        assert checkpoints.latest_step() == 2


@pytest.mark.parametrize("surfaces", ["wait", "save", "close"])
def test_a_full_disk_is_said_and_the_earlier_checkpoint_is_intact(small_disk, surfaces):
    directory = small_disk / "checkpoints"
    large = np.random.default_rng(0).normal(size=200_000)  # 1.6 MB that do not compress
    checkpoints = Checkpoints(directory)
    checkpoints.save(1, small_state(1), {}, metric=0.5)
    checkpoints.wait()
    checkpoints.save(2, small_state(2) | {"large": large}, {})
    calls = {"wait": checkpoints.wait, "close": checkpoints.close,
             "save": lambda: checkpoints.save(3, small_state(3), {})}
    said = r"step 2 could not be written.*: No space left on device\. .*step 1 is the last good one"
    with pytest.raises(SaveError, match=said):
        calls[surfaces]()
    assert [path.name for path in directory.iterdir()] == ["1"]  # the half written one does not go on filling the disk
    checkpoints.close()
    with Checkpoints(directory) as checkpoints:
        restored, _, step = checkpoints.restore(small_state(0))
        assert step == 1
        assert_same(restored, small_state(1))
        checkpoints.save(2, small_state(2), {})
        assert checkpoints.latest_step() == 2


KILLED = """
import os, sys
import numpy as np
from dietjax.checkpoint import Checkpoints
checkpoints = Checkpoints(sys.argv[1])
checkpoints.save(1, {"w": np.full(1000, 1.0)}, {})
checkpoints.wait()
checkpoints.save(2, {"w": np.random.default_rng(0).normal(size=4_000_000)}, {})
os._exit(9)
"""


@pytest.mark.slow
def test_killed_while_saving_leaves_the_earlier_checkpoint(tmp_path):
    source = Path(__file__).parents[2] / "src"
    process = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert process.returncode == 9, process.stderr
    assert "absl" not in process.stderr  # orbax does not chat on a user's terminal
    assert not (tmp_path / "2").exists(), "the second save was to be in progress"
    with Checkpoints(tmp_path) as checkpoints:
        restored, _, step = checkpoints.restore({"w": np.zeros(1000)})
        assert step == 1
        assert_same(restored, {"w": np.full(1000, 1.0)})
        checkpoints.save(3, restored, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "3"]  # and no remains of step 2
