"""When an ended daemon is started again."""

from __future__ import annotations

from lab.supervisor.daemon import SETTLED_SECONDS, Backoff, describe_end


def test_delays_double_up_to_ten_seconds() -> None:
    backoff = Backoff()
    assert [backoff.after_run_of(0.1) for _ in range(8)] == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_a_long_run_is_forgiven() -> None:
    backoff = Backoff()
    for _ in range(6):
        backoff.after_run_of(0.1)
    assert backoff.after_run_of(SETTLED_SECONDS) == 0.25
    assert backoff.after_run_of(0.1) == 0.5


def test_ends_are_told_in_words() -> None:
    assert describe_end(3) == "exit status 3"
    assert describe_end(-9) == "killed by signal 9"
