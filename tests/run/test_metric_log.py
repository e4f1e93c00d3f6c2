"""Laws of metric_log: what a killed run had written beyond its checkpoint goes, the rest stays as it was."""

import contextlib
import json
import shutil
import struct

import pytest

from dietjax.run.metric_log import MetricLog


def line(phase, step, split="train", **values):
    return json.dumps({"phase": phase, "split": split, "step": step, **values}) + "\n"


ANN = line("ann", 10, loss=0.5) + line("ann", 10, "test", loss=0.25) + line("ann", 20, loss=0.125)
SNN = line("snn", 10, loss=2.0) + line("snn", 20, loss=1.0)
CONVERTED = line("converted", 0, "test", loss=3.0)


@pytest.fixture
def log(tmp_path):
    log = MetricLog(tmp_path)
    yield log
    log.close()


def test_begin_drops_lines_of_the_phase_beyond_the_step(log):
    log.path.write_text(ANN + CONVERTED + SNN)
    log.begin("snn", 10)
    assert log.path.read_text() == ANN + CONVERTED + line("snn", 10, loss=2.0)


def test_begin_at_zero_drops_the_whole_phase(log):
    log.path.write_text(ANN + CONVERTED + SNN)
    log.begin("snn", 0)
    assert log.path.read_text() == ANN + CONVERTED


def test_begin_of_a_finished_phase_keeps_every_later_line(log):
    log.path.write_text(ANN + CONVERTED + SNN)
    log.begin("ann", 20)
    assert log.path.read_text() == ANN + CONVERTED + SNN


def test_begin_keeps_lines_byte_for_byte(log):
    odd = '{"step":10,  "phase": "ann", "split":"train", "loss": 1.0000000000000001e-01, "x":NaN}\n'
    log.path.write_bytes((odd + ANN).encode())
    log.begin("snn", 0)
    assert log.path.read_bytes() == (odd + ANN).encode()


@pytest.mark.parametrize("torn", ['{"phase": "ann", "sp', line("ann", 10)[:-1]])
def test_begin_drops_a_torn_last_line(log, torn):
    log.path.write_text(ANN + torn)
    log.begin("ann", 20)
    assert log.path.read_text() == ANN


@pytest.mark.parametrize("damaged", [
    b"\n", b"\0\0\0\0\n", b'{"phase": "ann", "sp\0\0\0\n', b'\xff\xfe{"phase"}\n', b"1.5\n", b'{"phase": "ann"}\n',
    b'{"phase": "ann", "step": "10"}\n', b'{"phase":\r"ann"\x0c\x85\n'])
def test_begin_drops_a_damaged_line_says_which_and_keeps_the_others(log, damaged):
    lines = (ANN + SNN).encode().splitlines(keepends=True)
    log.path.write_bytes(b"".join([*lines[:2], damaged, *lines[2:]]))
    with pytest.warns(UserWarning, match=r"metrics\.jsonl line 3 is damaged and was dropped") as caught:
        log.begin("ann", 20)
    assert len(caught) == 1
    assert log.path.read_bytes() == (ANN + SNN).encode()


def test_begin_does_not_touch_a_file_with_nothing_to_drop(log):
    log.path.write_text(ANN)
    before = log.path.stat()
    log.begin("ann", 20)
    assert (log.path.stat().st_ino, log.path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_write_appends_after_what_begin_kept(log):
    log.path.write_text(ANN + SNN)
    log.begin("ann", 10)
    log.write("ann", "train", 20, {"loss": 0.5, "threshold": {"conv1": 0.25}})
    kept = ANN.splitlines(keepends=True)[:2]
    assert log.path.read_text() == "".join(kept) + SNN + line("ann", 20, loss=0.5, threshold={"conv1": 0.25})


def test_a_line_is_on_disk_before_the_run_goes_on(log):
    log.begin("ann", 0)
    log.write("ann", "train", 1, {"loss": 0.5})
    assert log.path.read_text() == line("ann", 1, loss=0.5)  # not closed: a kill now loses nothing


def test_every_number_is_written_for_tensorboard_too(log, tmp_path):
    log.begin("snn", 0)
    log.write("snn", "test", 7, {"loss": 0.5, "spike_rate": {"conv1": 0.25}, "accuracy_by_timestep": [0.0, 1.0]})
    log.close()
    (events,) = (tmp_path / "tensorboard" / "snn").iterdir()
    content = events.read_bytes()
    assert b"test/loss" in content and b"spike_rate/conv1" in content and b"accuracy_by_timestep" not in content


def test_a_killed_runs_events_beyond_the_step_are_purged(log, tmp_path):
    from tensorboardX.proto.event_pb2 import SessionLog

    log.path.write_text(line("snn", 7))
    log.begin("snn", 7)
    log.write("snn", "train", 8, {"loss": 0.5})
    log.close()
    _, start, event = read_events(next((tmp_path / "tensorboard" / "snn").iterdir()))
    assert (start.step, start.session_log.status) == (8, SessionLog.START)  # TensorBoard drops step 8 and later
    assert (event.step, event.summary.value[0].tag, event.summary.value[0].simple_value) == (8, "train/loss", 0.5)


def read_events(path):
    """A TFRecord file: length, its checksum, an Event, its checksum; and so on."""
    from tensorboardX.proto.event_pb2 import Event

    content, events = path.read_bytes(), []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        events.append(Event.FromString(content[12 : 12 + length]))
        content = content[16 + length :]
    return events


@pytest.mark.parametrize("full", ["metrics.jsonl", "tensorboard"])
def test_a_full_disk_is_an_error_that_names_the_file_and_nothing_hangs(small_disk, full):
    log, values = MetricLog(small_disk), {"loss": 0.5, "threshold": {f"layer{i}": 0.125 for i in range(1000)}}
    if full == "tensorboard":
        log.begin("ann", 0)
        log.path.symlink_to("/dev/null")
    with pytest.raises(OSError, match=rf"No space left on device: '.*{full}"):
        for step in range(100):
            log.write("ann", "train", step, values)
    with contextlib.suppress(OSError):  # of what is still to be written
        log.close()
    log.close()


def test_begin_at_an_untested_step_drops_the_test_that_a_kill_left_of_it(log):
    train = line("snn", 10, loss=2.0)
    log.path.write_text(ANN + train + line("snn", 10, "test", loss=3.0))
    log.begin("snn", 10, untested=True)
    assert log.path.read_text() == ANN + train


# ---- what somebody else does to it


def covering(step, steps, phase="ann"):
    return line(phase, step, steps=steps)


@pytest.mark.parametrize("kept, unlogged, says", [
    ([covering(20, 20), covering(40, 20)], 6, None),  # 46: six gathered since the last line
    ([covering(20, 20)], 6, "lacks steps 21 to 40 of ann: it was shortened or removed"),
    ([covering(40, 20)], 6, "lacks steps 1 to 20 of ann"),
    ([], 0, "lacks steps 1 to 46 of ann"),
    ([covering(10, 10), covering(40, 20)], 0, "lacks steps 11 to 20 and 41 to 46 of ann"),
    ([line("ann", 20), line("ann", 40)], 6, None),  # of an earlier version
    ([covering(20, 20), covering(40, 20), covering(46, 46, "snn")], 0, "lacks steps 41 to 46 of ann"),
])
def test_begin_names_the_steps_whose_lines_are_gone(log, kept, unlogged, says):
    log.path.write_text("".join(kept))
    with contextlib.nullcontext() if says is None else pytest.warns(UserWarning, match=says):
        log.begin("ann", 46, unlogged=unlogged)
    assert log.path.read_text() == "".join(kept)


@pytest.mark.parametrize("replaced", [None, "", "another\n"])
def test_a_log_that_was_removed_or_replaced_is_written_anew_with_every_line(log, replaced):
    log.path.write_text(ANN)
    log.begin("ann", 20)
    log.write("ann", "train", 30, {})
    log.path.unlink()
    if replaced is not None:
        log.path.write_text(replaced)
    with pytest.warns(UserWarning, match=r"metrics\.jsonl was removed or replaced under the run; .* with every line"):
        log.write("ann", "train", 40, {})
    log.write("ann", "train", 50, {})
    assert log.path.read_text() == ANN + line("ann", 30) + line("ann", 40) + line("ann", 50)


@pytest.mark.parametrize("kept", [0, 1, len(line("ann", 10)), len(line("ann", 10)) + 5])
def test_a_log_that_was_shortened_goes_on_with_whole_lines(log, kept):
    log.begin("ann", 0)
    log.write("ann", "train", 10, {})
    log.write("ann", "train", 20, {})
    with open(log.path, "r+b") as file:
        file.truncate(kept)
    with pytest.warns(UserWarning, match="was shortened under the run.*lines of it are lost"):
        log.write("ann", "train", 30, {})
    log.write("ann", "train", 40, {})
    left = line("ann", 10) if kept >= len(line("ann", 10)) else ""
    assert log.path.read_text() == left + line("ann", 30) + line("ann", 40)


def test_a_log_that_somebody_appends_to_is_left_alone(log):
    log.begin("ann", 0)
    log.write("ann", "train", 10, {})
    with open(log.path, "a") as file:
        file.write(line("note", 1))
    log.write("ann", "train", 20, {})
    assert log.path.read_text() == line("ann", 10) + line("note", 1) + line("ann", 20)


def test_removed_events_are_begun_anew(log, tmp_path):
    log.begin("snn", 0)
    log.write("snn", "train", 1, {"loss": 0.5})
    shutil.rmtree(tmp_path / "tensorboard")
    with pytest.warns(UserWarning, match="was removed under the run; TensorBoard sees what follows step 2"):
        log.write("snn", "train", 2, {"loss": 0.25})
    log.write("snn", "train", 3, {"loss": 0.125})
    log.close()
    assert [event.step for event in read_events(next((tmp_path / "tensorboard" / "snn").iterdir()))] == [0, 2, 3]
