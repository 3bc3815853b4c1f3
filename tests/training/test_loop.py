import os
import signal
import time

import pytest
from accelerate import Accelerator

from fgr.training.loop import Feed, Interrupts, take_steps


def take(step, first=0, last=7, every=3):
    """The steps at which a checkpoint was written; `step` is given the number of the step."""
    taken, saved = [first], []

    def one():
        taken[0] += 1
        return step(taken[0])

    try:
        take_steps(one, "test", first, last, lambda: saved.append(taken[0]), every, Accelerator(cpu=True))
    except KeyboardInterrupt:
        saved.append("interrupted")
    return saved


def test_a_checkpoint_comes_every_few_steps_and_at_the_end():
    assert take(lambda step: True) == [3, 6, 7]
    assert take(lambda step: True, first=4) == [6, 7]
    assert take(lambda step: True, first=7) == []


def test_a_step_may_end_the_training():
    assert take(lambda step: step < 5) == [3, 5]


def test_a_signal_saves_after_the_step_in_hand():
    def interrupted(step):
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return True

    before = signal.getsignal(signal.SIGTERM)
    assert take(interrupted) == [2, "interrupted"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_first_interrupt_is_a_flag_and_the_second_interrupts(capfd):
    before = signal.getsignal(signal.SIGINT)
    with Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    assert "saving" in capfd.readouterr().err


@pytest.mark.parametrize("ahead", [0, 2])
def test_batches_come_in_order_and_waiting_is_counted(ahead):
    read = []

    def source():
        for number in range(4):
            time.sleep(0.02)
            read.append(number)
            yield number

    feed = Feed(source(), lambda number: 10 * number, ahead)
    assert next(feed) == 0
    assert 0.015 < feed.waited() < 30
    until = time.monotonic() + 30
    while len(read) <= ahead and time.monotonic() < until:
        time.sleep(0.01)
    assert read == [0, 1, 2][: ahead + 1]
    assert list(feed) == [10, 20, 30]
    assert 0 < feed.share <= 1


def test_an_error_of_the_batches_is_raised_in_its_turn():
    def source():
        yield 1
        raise ValueError("no more")

    feed = Feed(source(), lambda number: number, ahead=2)
    assert next(feed) == 1
    with pytest.raises(ValueError, match="no more"):
        next(feed)
