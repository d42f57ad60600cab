"""The checker itself: it must find what it is there to find."""

from __future__ import annotations

from history import Kind, Operation, Outcome, Seen, Watched, problems, watch_problems

DONE, REFUSED, UNKNOWN = Outcome.DONE, Outcome.REFUSED, Outcome.UNKNOWN


def create(at: float, value: str, revision: int, outcome: Outcome = DONE, seconds: float = 1) -> Operation:
    return Operation("k", Kind.CREATE, at, at + seconds, outcome, value, revision)


def update(at: float, value: str, expected: int, revision: int, outcome: Outcome = DONE) -> Operation:
    return Operation("k", Kind.UPDATE, at, at + 1, outcome, value, revision, expected)


def delete(at: float, expected: int, outcome: Outcome = DONE) -> Operation:
    return Operation("k", Kind.DELETE, at, at + 1, outcome, expected=expected)


def read(at: float, value: str = "", revision: int = 0, seconds: float = 1) -> Operation:
    return Operation("k", Kind.READ, at, at + seconds, DONE, value, revision)


GOOD = [create(0, "a", 5), read(2, "a", 5), update(4, "b", 5, 9), read(6, "b", 9), delete(8, 9), read(10)]


def test_a_good_history_is_good() -> None:
    assert problems(GOOD) == []
    assert problems([*GOOD, create(12, "c", 20), read(14, "c", 20)]) == []


def test_concurrent_operations_may_be_seen_either_way() -> None:
    assert problems([create(0, "a", 5), update(2, "b", 5, 9), read(2.5, "a", 5, seconds=0.1)]) == []
    assert problems([create(0, "a", 5), update(2, "b", 5, 9), read(2.5, "b", 9, seconds=0.1)]) == []
    assert problems([create(0, "a", 5), delete(2, 5), read(2.1, seconds=0.1), read(2.5, seconds=0.1)]) == []


def test_stale_reads_are_found() -> None:
    assert "stale read" in problems([*GOOD[:4], read(7.5, "a", 5)])[0]
    assert "nothing was read" in problems([create(0, "a", 5), read(2)])[0]
    assert "stale read" in problems([*GOOD, read(12, "b", 9)])[0]


def test_an_absence_seen_once_is_not_unseen() -> None:
    history = [create(0, "a", 5), delete(2, 5, UNKNOWN), read(4)]
    assert problems(history) == []
    assert problems([*history, read(6, "a", 5)]) != []


def test_lost_writes_are_found() -> None:
    lost = [create(0, "a", 5), update(2, "b", 5, 9), update(4, "c", 5, 12)]
    assert "expected (5, 0) and followed (9, 0)" in problems(lost)[0]
    assert "followed (5, 0)" in problems([create(0, "a", 5), create(2, "b", 9)])[0]


def test_invented_writes_are_found() -> None:
    assert "nobody wrote" in problems([create(0, "a", 5), read(2, "x", 7)])[0]
    assert "nobody wrote" in problems([create(0, "a", 5), update(2, "b", 5, 0, REFUSED), read(4, "b", 7)])[0]
    assert "another revision" in problems([create(0, "a", 5), read(2, "a", 7)])[0]
    assert "before it was written" in problems([create(2, "a", 5), read(0, "a", 5)])[0]


def test_a_write_whose_answer_was_lost_may_show_or_not() -> None:
    unsure = [create(0, "a", 5), update(2, "b", 5, 0, UNKNOWN)]
    assert problems([*unsure, read(4, "a", 5)]) == []
    assert problems([*unsure, read(4, "b", 9)]) == []
    assert problems([*unsure, read(4, "a", 5), read(6, "b", 9)]) == []  # it took effect late
    assert problems([*unsure, read(4, "b", 9), read(6, "a", 5)]) != []
    assert problems([*unsure, read(4, "b", 9), update(6, "c", 5, 12)]) != []


def test_watches_that_skip_repeat_or_turn_around_are_found() -> None:
    first, second, third = Seen("ADDED", "k", 5, "a"), Seen("MODIFIED", "k", 9, "b"), Seen("DELETED", "k", 11)

    def told(*events: Seen, end: int = 11) -> str:
        whole = Watched(0, 11, [first, second, third])
        return "; ".join(watch_problems([whole, Watched(0, end, list(events))], GOOD))

    assert told(first, second, third) == ""
    assert told(first, end=5) == ""
    assert "skipped Seen(type='MODIFIED'" in told(first, third)
    assert "skipped Seen(type='DELETED'" in told(first, second)
    assert "revision 9 after one of 9" in told(first, second, second, third)
    assert "revision 5 after one of 9" in told(second, first, third)
    assert "in the place of" in told(Seen("ADDED", "k", 5, "x"), second, third)
    assert "in the place of" in told(first, Seen("ADDED", "k", 9, "b"), third)
    again = [*GOOD, create(12, "c", 20)]
    missed = Watched(0, 20, [first, second, Seen("ADDED", "k", 20, "c")])
    assert "came next" in watch_problems([missed], again)[0]
