"""Ctrl-C or SIGTERM once asks, twice insists."""

import os
import signal

import pytest

from experiments.console.interrupt import Interrupt


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_is_a_request_and_second_does_what_it_does(number):
    with Interrupt() as interrupt:
        assert not interrupt.requested and interrupt.signal is None
        send(number)
        assert interrupt.requested and interrupt.signal == number
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_handlers_before_come_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with Interrupt():
        send(signal.SIGTERM)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
