"""Probes and lifecycle hooks of containers.

Source: pkg/apis/core/validation/validation.go (validateProbe, validateHandler, validateLifecycle).
"""

from __future__ import annotations

from typing import Any

from controlplane.apiserver.registry.objects import integer, items, number, sub, text, values
from controlplane.apiserver.registry.validation.parts import check_names, dictionary, not_negative, unsupported
from machinery.api import names
from machinery.api.fielderror import FieldError, forbidden, invalid, required
from machinery.api.meta import Object


def probe(field: str, found: Object | None, grace_seconds: int | None) -> list[FieldError]:
    """A probe of any sort."""
    if found is None:
        return []
    errors = _handler(field, found, grace_seconds)
    for key in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        errors += not_negative(f"{field}.{key}", number(found, key))
    seconds = integer(found, "terminationGracePeriodSeconds")
    if seconds is not None and seconds <= 0:
        errors.append(invalid(f"{field}.terminationGracePeriodSeconds", seconds, "must be greater than 0"))
    return errors


def probes(container: Object, field: str, grace_seconds: int | None) -> list[FieldError]:
    """The three probes of a container."""
    errors: list[FieldError] = []
    for key in ("livenessProbe", "readinessProbe", "startupProbe"):
        found = dictionary(container, key)
        errors += probe(f"{field}.{key}", found, grace_seconds)
        if found is None:
            continue
        if key != "readinessProbe" and number(found, "successThreshold") != 1:
            errors.append(invalid(f"{field}.{key}.successThreshold", number(found, "successThreshold"), "must be 1"))
        if key == "readinessProbe" and found.get("terminationGracePeriodSeconds") is not None:
            errors.append(
                invalid(
                    f"{field}.{key}.terminationGracePeriodSeconds",
                    found["terminationGracePeriodSeconds"],
                    "must not be set for readinessProbes",
                )
            )
    return errors


_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")


def _handler(field: str, handler: Object, grace_seconds: int | None) -> list[FieldError]:
    """What a probe or hook does: exactly one thing."""
    errors: list[FieldError] = []
    count = 0
    for kind in _HANDLERS:
        action = dictionary(handler, kind)
        if action is None:
            continue
        if count:
            errors.append(forbidden(f"{field}.{kind}", "may not specify more than 1 handler type"))
        else:
            count += 1
            errors += _action(f"{field}.{kind}", kind, action, grace_seconds)
    if not count:
        errors.append(required(field, "must specify a handler type"))
    return errors


def _action(field: str, kind: str, action: Object, grace_seconds: int | None) -> list[FieldError]:
    if kind == "exec":
        return [] if values(action, "command") else [required(f"{field}.command")]
    if kind == "httpGet":
        return _http_get(field, action)
    if kind == "tcpSocket":
        return port_or_name(f"{field}.port", action.get("port"))
    if kind == "grpc":
        return [invalid(f"{field}.port", number(action, "port"), m) for m in names.port_number(number(action, "port"))]
    seconds = number(action, "seconds")
    grace = 30 if grace_seconds is None else grace_seconds
    if not 0 <= seconds <= grace:
        detail = f"must be non-negative and less than terminationGracePeriodSeconds ({grace})"
        return [invalid(field, seconds, detail)]
    return []


def _http_get(field: str, action: Object) -> list[FieldError]:
    errors = [] if text(action, "path") else [required(f"{field}.path")]
    errors += port_or_name(f"{field}.port", action.get("port"))
    scheme = text(action, "scheme")
    if scheme not in ("HTTP", "HTTPS"):
        errors.append(unsupported(f"{field}.scheme", scheme, ("HTTP", "HTTPS")))
    for header in items(action, "httpHeaders"):
        errors += check_names(f"{field}.httpHeaders", text(header, "name"), names.http_header)
    return errors


def port_or_name(field: str, port: Any) -> list[FieldError]:
    """The number or the name of a port."""
    if isinstance(port, str):
        return [invalid(field, port, message) for message in names.port_name(port)]
    if isinstance(port, int) and not isinstance(port, bool):
        return [invalid(field, port, message) for message in names.port_number(port)]
    return [invalid(field, 0, message) for message in names.port_number(0)]


def lifecycle(field: str, found: Object | None, grace_seconds: int | None, os: str) -> list[FieldError]:
    """Hooks, and the signal that stops the container."""
    if found is None:
        return []
    errors: list[FieldError] = []
    for hook in ("postStart", "preStop"):
        if (handler := dictionary(found, hook)) is not None:
            errors += _handler(f"{field}.{hook}", handler, grace_seconds)
    if signal := text(found, "stopSignal"):
        errors += _stop_signal(f"{field}.stopSignal", signal, os)
    return errors


_POSIX = (
    "SIGABRT SIGALRM SIGBUS SIGCHLD SIGCLD SIGCONT SIGFPE SIGHUP SIGILL SIGINT SIGIO SIGIOT SIGKILL SIGPIPE SIGPOLL "
    "SIGPROF SIGPWR SIGQUIT SIGSEGV SIGSTKFLT SIGSTOP SIGSYS SIGTERM SIGTRAP SIGTSTP SIGTTIN SIGTTOU SIGURG SIGUSR1 "
    "SIGUSR2 SIGVTALRM SIGWINCH SIGXCPU SIGXFSZ SIGRTMIN"
)
LINUX_SIGNALS = frozenset(_POSIX.split(" ")) | frozenset(
    ["SIGRTMAX", *(f"SIGRTMIN+{i}" for i in range(1, 16)), *(f"SIGRTMAX-{i}" for i in range(1, 15))]
)
WINDOWS_SIGNALS = ("SIGKILL", "SIGTERM")


def _stop_signal(field: str, signal: str, os: str) -> list[FieldError]:
    if not os:
        return [forbidden(field, "may not be set for containers with empty `spec.os.name`")]
    if os == "windows":
        return [] if signal in WINDOWS_SIGNALS else [unsupported(field, signal, WINDOWS_SIGNALS)]
    return [] if signal in LINUX_SIGNALS else [unsupported(field, signal, sorted(LINUX_SIGNALS))]


def has_handlers(container: Object) -> bool:
    """Whether a container has hooks."""
    return any(sub(container, "lifecycle").get(k) for k in ("postStart", "preStop"))
