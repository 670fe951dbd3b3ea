"""Ctrl-C once asks, twice insists."""

import os
import signal

import pytest

from experiments.interrupt import Interrupt


def press_ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


def test_first_is_a_request_and_second_raises():
    with Interrupt() as interrupt:
        assert not interrupt.requested
        press_ctrl_c()
        assert interrupt.requested
        with pytest.raises(KeyboardInterrupt):
            press_ctrl_c()


def test_handler_before_comes_back():
    before = signal.getsignal(signal.SIGINT)
    with Interrupt():
        press_ctrl_c()
    assert signal.getsignal(signal.SIGINT) is before
