"""Who runs a run: process.json in its folder, which is the lock as well. Loads no jax.

One process at a time writes in a run's folder. The lock is the system's (flock), so it ends with its owner, however
that ends. Where flock does not reach, on another host or a file system without it, a sign of life tells: the file's
time of change, which the owner renews.
"""

import contextlib
import datetime
import errno
import fcntl
import json
import os
import pathlib
import shlex
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from ..errors import InputError, Stopped

NAME = "process.json"
BEAT = 5.0
"""Seconds between two signs of life."""
SILENCE = 20.0
"""Seconds without one after which a process is taken for dead, where no lock of the system tells."""
PATIENCE = 0.5
"""Seconds in which a lock is asked for: `status` holds it for a moment to see whether it is free."""
SETTLED = 1.0
"""Seconds after which, of two that took a folder without flock at the same time, only the later finds itself there."""
SIZE = 4096
"""Bytes of the file, whatever it says: how its process ended fits in where the disk is full."""
LONGEST = 400
"""Characters that are kept of a command and of an error's message."""
UNSUPPORTED = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
"""What flock says on file systems that have no locks."""


class Lock:
    """Inside its `with` block this process alone may write in a run's folder.

    The folder is made where there is none. Until `keep` is called everything is put back as it was when the block ends;
    from then on the file stays, and says how the process ended.
    """

    def __init__(self, workdir: pathlib.Path, say: Callable[[str], None], takes: bool = True):
        """For one use.

        Args:
            workdir: the run's folder.
            say: called with a sentence where the lock has to be waited for, or is a weak one.
            takes: false in all processes of a run but the first, which stands for them.
        """
        self._workdir, self._path, self._say, self._takes = workdir, workdir / NAME, say, takes
        self._made: list[pathlib.Path] = []
        self._fd, self._before, self._kept = -1, b"", False
        self._over = threading.Event()

    def __enter__(self) -> "Lock":
        """Take it.

        Raises:
            InputError: another process has it, or the folder cannot be written.
        """
        if not self._takes:
            return self
        try:
            locked = self._open()
            self._before = os.pread(self._fd, SIZE, 0)
            try:
                self._take(locked)
            except BaseException:
                self._put_back()
                raise
        except OSError as error:
            raise InputError(f"workdir {self._workdir} cannot be written: {error.strerror}; choose another "
                             "--workdir") from error
        threading.Thread(target=self._live, daemon=True, name="sign of life").start()
        return self

    def keep(self) -> None:
        """The folder is the run's now."""
        self._kept = True

    def __exit__(self, kind: type | None, error: BaseException | None, _: Any) -> None:
        if self._fd < 0:
            return
        self._over.set()
        if not self._kept:
            self._put_back()
            return
        how = "finished" if error is None else "stopped" if isinstance(error, Stopped | KeyboardInterrupt) else "failed"
        said = "" if error is None else " ".join(str(error).split()) or type(error).__name__
        try:
            self._write(self._record | {"ended": _now(), "how": how, "said": said[:LONGEST]})
        except OSError as failed:  # the run's own end is not to be hidden by it
            self._say(f"warning: how this process ended could not be written in {self._path}: {failed.strerror}")
        os.close(self._fd)

    def _open(self) -> bool:
        """Open the file and take flock on it: whether there is one."""
        limit = time.monotonic() + PATIENCE
        while True:
            self._made += [folder for folder in (self._workdir, *self._workdir.parents) if not folder.exists()]
            self._workdir.mkdir(parents=True, exist_ok=True)
            try:
                self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
            except FileNotFoundError:  # who had it has just removed the folder
                continue
            locked = _flock(self._fd, fcntl.LOCK_EX)
            if locked is not False and self._is_there():
                return bool(locked)
            record = _parse(os.pread(self._fd, SIZE, 0))
            os.close(self._fd)
            if locked is False and time.monotonic() > limit:
                raise self._refusal(record)
            time.sleep(PATIENCE / 10)

    def _is_there(self) -> bool:
        """Whether what was opened still has its name: who had it may have removed it meanwhile."""
        try:
            return os.path.samestat(os.fstat(self._fd), self._path.stat())
        except FileNotFoundError:
            return False

    def _take(self, locked: bool) -> None:
        """Make sure that no process is alive that flock knows nothing of, and write down that this one has it."""
        found = _parse(self._before)
        if found and "ended" not in found and not (locked and found.get("machine") == _machine()):
            self._say(f"{self._path} says that {_whom(found)}, and no lock tells whether it still does; a sign of life "
                      f"is waited for, {SILENCE:.0f} seconds")
            if self._beats():
                raise self._refusal(found)
        self._record = {"pid": os.getpid(), "host": socket.gethostname(), "machine": _machine(), "since": _now(),
                        "command": shlex.join([os.path.basename(sys.argv[0]), *sys.argv[1:]])[:LONGEST]}
        self._write(self._record)
        if not locked:
            self._say(f"warning: {self._workdir} is on a file system without locks; that another command runs in it is "
                      f"noticed by its signs of life alone, within {SILENCE:.0f} seconds")
            time.sleep(SETTLED)
            now = _parse(self._path.read_bytes())
            if now != self._record:
                os.close(self._fd)
                self._fd = -1
                raise self._refusal(now)

    def _beats(self) -> bool:
        """Whether the file changes meanwhile and does not say that its process has ended."""
        def look() -> tuple[int, dict]:
            with open(self._path, "rb") as file:  # opened anew, or a network's file system may answer from memory
                return os.fstat(file.fileno()).st_mtime_ns, _parse(file.read())

        (first, _), limit = look(), time.monotonic() + SILENCE
        while time.monotonic() < limit:
            time.sleep(min(BEAT, SILENCE) / 10)
            changed, found = look()
            if changed != first:
                return "ended" not in found
        return False

    def _live(self) -> None:
        """Renew the sign of life."""
        while not self._over.wait(BEAT):
            try:
                os.utime(self._fd)
            except OSError:  # a server that is away for a moment; the next one counts
                continue

    def _write(self, record: dict[str, Any]) -> None:
        text = json.dumps(record, ensure_ascii=False).encode(errors="replace")
        os.pwrite(self._fd, text.ljust(SIZE - 1) + b"\n", 0)  # at once and in place: the lock is on this very file

    def _put_back(self) -> None:
        """Leave no trace."""
        if self._fd < 0:
            return
        if self._before:
            os.pwrite(self._fd, self._before, 0)
        else:
            self._path.unlink(missing_ok=True)
        os.close(self._fd)
        with contextlib.suppress(OSError):  # one that holds something stays, and so do those that it lies in
            for folder in self._made:
                folder.rmdir()

    def _refusal(self, record: dict) -> InputError:
        return InputError(f"{self._workdir} is in use: {_whom(record)}; nothing was changed. Wait for it, stop it, or "
                          f"choose another --workdir. dietjax status {self._workdir} says how far it is")


def read(workdir: pathlib.Path) -> dict[str, Any] | None:
    """What a run's folder says of the process that runs it, or that was the last to.

    Returns:
        None where it says nothing (of an earlier version of dietjax); else {"pid", "host", "since", "command", "alive":
        True, False, or None where nothing tells}, and of one that has ended "ended", "how": "finished" | "stopped" |
        "failed", and "said": its last words.
    """
    try:
        with open(workdir / NAME, "rb") as file:
            locked = _flock(file.fileno(), fcntl.LOCK_SH)
            record, silent = _parse(file.read()), time.time() - os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        return None
    if "ended" in record:
        alive: bool | None = False
    elif locked is False or (silent < SILENCE and (locked is None or record.get("machine") != _machine())):
        alive = True
    else:
        alive = False if locked and record.get("machine") == _machine() else None
    return {name: value for name, value in record.items() if name != "machine"} | {"alive": alive}


def _flock(fd: int, kind: int) -> bool | None:
    """Ask for a lock: whether it was free; None where there are no locks."""
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except OSError as error:
        if isinstance(error, BlockingIOError):
            return False
        if error.errno in UNSUPPORTED:
            return None
        raise
    return True


def _parse(content: bytes) -> dict[str, Any]:
    """The record; empty where there is none yet, or none that can be read."""
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _whom(record: dict) -> str:
    if not record:
        return "another process has just taken it"
    return (f"process {record.get('pid')} on {record.get('host')} runs it since {record.get('since')} "
            f"({record.get('command')})")


def _machine() -> str:
    """The same for all processes under one kernel, which are those that flock keeps apart."""
    boot = pathlib.Path("/proc/sys/kernel/random/boot_id")  # macOS has none
    return f"{socket.gethostname()} {boot.read_text().strip() if boot.exists() else ''}".strip()


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
