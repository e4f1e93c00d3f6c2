"""Laws of dietjax.parallel.preemption: the first signal is noted, the second acts, and afterwards all is as before."""

import os
import signal
import threading
import time

import pytest

from dietjax.errors import Stopped
from dietjax.parallel import preemption as preemption_module
from dietjax.parallel.preemption import Preemption, stopping

SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


class Terminated(Exception):
    pass


@pytest.fixture(autouse=True)
def handlers():
    """Signals raise, however pytest was started (in the background SIGINT is ignored); restored afterwards."""
    def terminated(number, frame):
        raise Terminated

    before = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGTERM, terminated)
    signal.signal(signal.SIGHUP, terminated)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number, acts", [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)])
def test_the_first_signal_is_noted_and_the_second_acts(number, acts):
    with Preemption() as preemption:
        assert not preemption.reached()
        os.kill(os.getpid(), number)
        assert preemption.reached() and preemption.signal == number
        with pytest.raises(acts):
            os.kill(os.getpid(), number)
            time.sleep(5)


def test_hang_ups_are_noted_however_many_come():
    with Preemption() as preemption:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGHUP)
            assert preemption.reached() and preemption.signal == signal.SIGHUP


def test_an_ignored_hang_up_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with Preemption() as preemption:
        os.kill(os.getpid(), signal.SIGHUP)
        assert not preemption.reached()
        os.kill(os.getpid(), signal.SIGTERM)
        assert preemption.reached()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


@pytest.mark.parametrize("sent", [None, signal.SIGTERM, signal.SIGHUP])
def test_afterwards_signals_act_as_before(sent):
    before = [signal.getsignal(number) for number in SIGNALS]
    with Preemption():
        assert [signal.getsignal(number) for number in SIGNALS] != before
        if sent:
            os.kill(os.getpid(), sent)
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_outside_a_preemption_a_signal_stops_at_once_and_says_what_it_is_told():
    before = [signal.getsignal(number) for number in SIGNALS]
    for number in SIGNALS:
        with pytest.raises(Stopped, match="ann is saved") as stopped, stopping(lambda: "ann is saved"):
            os.kill(os.getpid(), number)
            time.sleep(5)
        assert stopped.value.signal == number
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_a_preemption_inside_comes_first():
    with pytest.raises(Stopped), stopping(lambda: "second"):
        with Preemption() as preemption:
            os.kill(os.getpid(), signal.SIGTERM)
            assert preemption.reached()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)


def test_a_signal_during_an_import_waits_for_its_end(tmp_path, monkeypatch):
    (tmp_path / "interrupted_module.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(0.1)\nwhole = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Stopped), stopping(lambda: "stopped"):
        import interrupted_module
        time.sleep(5)
    assert interrupted_module.whole


def test_no_import_keeps_a_signal_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(preemption_module, "LONGEST_IMPORT", 0.1)
    (tmp_path / "endless_module.py").write_text("import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\n"
                                                "while True:\n    time.sleep(0.01)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Stopped), stopping(lambda: "stopped"):
        import endless_module  # noqa: F401


def test_outside_the_main_thread_signals_are_left_alone():
    def use():
        before = [signal.getsignal(number) for number in SIGNALS]
        with Preemption() as preemption:
            found.append((not preemption.reached(), [signal.getsignal(number) for number in SIGNALS] == before))

    found = []
    thread = threading.Thread(target=use)
    thread.start()
    thread.join(30)
    assert found == [(True, True)]
