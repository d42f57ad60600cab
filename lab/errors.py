"""What the lab and the bootstrap verbs raise, one line for the user each."""

from __future__ import annotations

from machinery.errors import NavarchError


class LabError(NavarchError):
    """The lab can't do what was asked; the message says what is wrong, where, and what to do."""


class NotRunning(LabError):
    """There is no lab, or its supervisor does not answer."""


def first_failure(failures: BaseExceptionGroup[NavarchError]) -> NavarchError:
    """The first error of a group, however deep: the one to tell the user."""
    error: BaseException = failures
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, NavarchError)
    return error
