"""Laws of dietjax.run.lock: one process at a time writes in a folder, and what it leaves there tells of it."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from dietjax.errors import InputError, Stopped
from dietjax.run import lock
from dietjax.run.lock import Lock

HOLDS = """
import pathlib, sys
from dietjax.run.lock import Lock

with Lock(pathlib.Path(sys.argv[1]), print) as held:
    held.keep()
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def said():
    return []


@pytest.fixture
def elsewhere(tmp_path):
    """A process that holds tmp_path/run; it ends when its input does."""
    process = subprocess.Popen([sys.executable, "-c", HOLDS, str(tmp_path / "run")], text=True, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def impatient(monkeypatch):
    """Waits are a hundredth of what they are."""
    for name in ("BEAT", "SILENCE", "PATIENCE", "SETTLED"):
        monkeypatch.setattr(lock, name, getattr(lock, name) / 100)


@pytest.fixture
def no_flock(monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)


def leave(folder, machine=None, **record):
    """process.json as another process would have left it."""
    folder.mkdir(exist_ok=True)
    record = {"pid": 12, "host": "elsewhere", "machine": machine or "elsewhere 1", "since": "then", "command": "train",
              **record}
    (folder / lock.NAME).write_text(json.dumps(record))


def fill(disk):
    with open(disk / "rest", "wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        for _ in range(1000):
            file.write(bytes(4096))


def test_another_process_is_refused_at_once_and_told_who_has_it(elsewhere, impatient, said, tmp_path):
    before = (tmp_path / "run" / lock.NAME).read_bytes()
    with pytest.raises(InputError, match=rf"in use: process {elsewhere.pid} on \S+ runs it since 20.*\(-c {tmp_path}/"):
        Lock(tmp_path / "run", said.append).__enter__()
    assert lock.read(tmp_path / "run")["alive"] is True
    assert (tmp_path / "run" / lock.NAME).read_bytes() == before and not said


def test_it_ends_with_its_owner_however_that_ends(elsewhere, said, tmp_path):
    elsewhere.send_signal(signal.SIGKILL)
    elsewhere.wait()
    found = lock.read(tmp_path / "run")
    assert (found["pid"], found["alive"]) == (elsewhere.pid, False) and "ended" not in found
    with Lock(tmp_path / "run", said.append):
        assert lock.read(tmp_path / "run")["pid"] == os.getpid()
    assert lock.read(tmp_path / "run") == found and not said  # it was not kept


def test_two_threads_exclude_each_other_too(impatient, said, tmp_path):
    taken, barrier = [], threading.Barrier(8)

    def take():
        barrier.wait()
        try:
            with Lock(tmp_path / "run", said.append):
                taken.append(1)
                assert len(taken) == 1
                time.sleep(0.1)
                taken.pop()
        except InputError:
            return

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not taken and not any(tmp_path.glob("run/*"))


def test_a_folder_that_was_not_kept_is_as_before(said, tmp_path):
    with Lock(tmp_path / "a" / "b", said.append):
        assert (tmp_path / "a" / "b" / lock.NAME).stat().st_size == lock.SIZE
    assert not any(tmp_path.iterdir())
    (tmp_path / "a").mkdir()
    with Lock(tmp_path / "a" / "b", said.append):
        pass
    assert (tmp_path / "a").is_dir() and not any((tmp_path / "a").iterdir())


@pytest.mark.parametrize("error, how, words", [
    (None, "finished", ""), (Stopped("ann is saved", signal.SIGTERM), "stopped", "ann is saved"),
    (KeyboardInterrupt(), "stopped", "KeyboardInterrupt"), (InputError("no\n such"), "failed", "no such"),
    (OSError(errno.ENOSPC, "full"), "failed", "[Errno 28] full"), (ZeroDivisionError("x" * 9999), "failed", "x" * 400),
])
def test_how_a_process_ended_is_kept(said, tmp_path, error, how, words):
    def run():
        with Lock(tmp_path, said.append) as held:
            held.keep()
            if error:
                raise error

    if error:
        with pytest.raises(type(error)):
            run()
    else:
        run()
    found = lock.read(tmp_path)
    assert (found["how"], found["said"], found["alive"]) == (how, words, False)
    assert (tmp_path / lock.NAME).stat().st_size == lock.SIZE  # it fits in where the disk is full


def test_the_longest_words_fit_in(said, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["𝔡" * 999, "\udcff" * 999])
    with pytest.raises(InputError), Lock(tmp_path, said.append) as held:
        held.keep()
        raise InputError("𝔡" * 999)
    assert (tmp_path / lock.NAME).stat().st_size == lock.SIZE and lock.read(tmp_path)["how"] == "failed"


def test_how_it_ended_is_written_on_a_full_disk(said, small_disk):
    with Lock(small_disk / "run", said.append) as held:
        held.keep()
        fill(small_disk)
    assert lock.read(small_disk / "run")["how"] == "finished" and not said


def test_a_folder_on_a_full_disk_is_refused_and_left_as_it_was(said, small_disk):
    fill(small_disk)
    with pytest.raises(InputError, match="run cannot be written: No space left on device; choose another --workdir"):
        Lock(small_disk / "run", said.append).__enter__()
    assert [path.name for path in small_disk.iterdir()] == ["rest"]


# ---- where flock does not reach


def test_on_another_host_a_sign_of_life_refuses(impatient, said, tmp_path):
    leave(tmp_path / "run")
    stop = threading.Event()

    def live():
        while not stop.wait(lock.BEAT):
            os.utime(tmp_path / "run" / lock.NAME)

    thread = threading.Thread(target=live)
    thread.start()
    try:
        assert lock.read(tmp_path / "run")["alive"] is True
        with pytest.raises(InputError, match=r"process 12 on elsewhere runs it since then \(train\); nothing"):
            Lock(tmp_path / "run", said.append).__enter__()
    finally:
        stop.set()
        thread.join()
    assert len(said) == 1 and "a sign of life is waited for" in said[0]
    assert json.loads((tmp_path / "run" / lock.NAME).read_text())["pid"] == 12


def test_on_another_host_silence_gives_it_up(impatient, said, tmp_path):
    leave(tmp_path / "run")
    os.utime(tmp_path / "run" / lock.NAME, (0, 0))
    assert lock.read(tmp_path / "run")["alive"] is None
    with Lock(tmp_path / "run", said.append):
        assert lock.read(tmp_path / "run")["pid"] == os.getpid()
    assert len(said) == 1


def test_on_another_host_an_end_is_believed(said, tmp_path):
    leave(tmp_path / "run", ended="now", how="stopped", said="at step 3")
    assert lock.read(tmp_path / "run")["alive"] is False
    with Lock(tmp_path / "run", said.append):
        pass
    assert not said


def test_a_process_shows_that_it_lives(impatient, said, tmp_path):
    with Lock(tmp_path, said.append):
        os.utime(tmp_path / lock.NAME, (0, 0))
        end = time.monotonic() + 20
        while (tmp_path / lock.NAME).stat().st_mtime == 0:
            assert time.monotonic() < end
            time.sleep(0.01)


def test_without_flock_it_is_said_and_signs_of_life_decide(no_flock, impatient, said, tmp_path):
    with Lock(tmp_path, said.append) as held:
        held.keep()
        assert len(said) == 1 and said[0].endswith("within 0 seconds") and "file system without locks" in said[0]
        assert lock.read(tmp_path)["alive"] is True
        with pytest.raises(InputError, match=f"in use: process {os.getpid()} on"):
            Lock(tmp_path, said.append).__enter__()
    with Lock(tmp_path, said.append):
        pass


def test_without_flock_of_two_at_once_one_stays(no_flock, impatient, said, tmp_path, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: leave(tmp_path))  # meanwhile
    with pytest.raises(InputError, match="process 12 on elsewhere"):
        Lock(tmp_path, said.append).__enter__()
    assert json.loads((tmp_path / lock.NAME).read_text())["pid"] == 12


@pytest.mark.parametrize("content", [b"", b"\0" * 4096, b"[1]", b'{"pid": 3', b"\xff\xfe"])
def test_a_damaged_file_is_nobody_s(said, tmp_path, content):
    (tmp_path / lock.NAME).write_bytes(content)
    assert lock.read(tmp_path)["alive"] is None or lock.read(tmp_path) == {"alive": True}
    with Lock(tmp_path, said.append) as held:
        held.keep()
    assert lock.read(tmp_path)["how"] == "finished" and not said


def test_a_process_of_a_run_that_is_not_the_first_takes_nothing(said, tmp_path):
    with Lock(tmp_path / "run", said.append, takes=False) as held:
        held.keep()
    assert not any(tmp_path.iterdir())
    assert lock.read(tmp_path) is None
