"""What the lab and the bootstrap verbs raise, one line for the user each."""

from __future__ import annotations

from machinery.errors import NavarchError


class LabError(NavarchError):
    """The lab can't do what was asked; the message says what is wrong, where, and what to do."""


class NotRunning(LabError):
    """There is no lab, or its supervisor does not answer."""
