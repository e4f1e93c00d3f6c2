"""Laws of dietjax.preemption: the first signal is noted, the second acts, and afterwards all is as before."""

import os
import signal
import threading
import time

import pytest

from dietjax.preemption import Preemption

SIGNALS = [signal.SIGTERM, signal.SIGINT]


class Terminated(Exception):
    pass


@pytest.fixture(autouse=True)
def handlers():
    """Both signals raise, however pytest was started (in the background SIGINT is ignored); restored afterwards."""
    def terminated(number, frame):
        raise Terminated

    before = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGTERM, terminated)
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


@pytest.mark.parametrize("sent", [False, True])
def test_afterwards_signals_act_as_before(sent):
    before = [signal.getsignal(number) for number in SIGNALS]
    with Preemption():
        assert [signal.getsignal(number) for number in SIGNALS] != before
        if sent:
            os.kill(os.getpid(), signal.SIGTERM)
    assert [signal.getsignal(number) for number in SIGNALS] == before


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
