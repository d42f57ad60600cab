"""What a patch that can't be applied is answered with.

Source: k8s.io/apiserver/pkg/endpoints/handlers/patch.go; k8s.io/apimachinery/pkg/api/errors (NewGenericServerResponse).
"""

from __future__ import annotations

from machinery.api import fielderror
from machinery.errors import Invalid, StatusError


def rejected() -> Invalid:
    """The 422 that upstream gives without saying what is wrong (a JSON patch whose operation does not apply)."""
    return Invalid("the server rejected our request due to an error in our request", details={})


def plain(message: str) -> StatusError:
    """An error that upstream did not think of: 500 without a reason."""
    error = StatusError(message)
    error.reason = ""
    return error


def unreadable(shown: str, message: str) -> Invalid:
    """The 422 for a patched object that its kind can't be: `shown` is the object as the message prints it."""
    wrong = fielderror.invalid("patch", shown, message)
    return Invalid(f' "" is invalid: {wrong}', details={"causes": [wrong.cause()]})
