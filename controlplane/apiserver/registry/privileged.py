"""Privileged containers: refused in pods and templates while --allow-privileged is off.

Source: pkg/capabilities; pkg/apis/core/validation/validation.go (ValidateSecurityContext and
validateWindowsHostProcessPod).
"""

from __future__ import annotations

from typing import Final

from controlplane.apiserver.registry.objects import flag, items, sub
from machinery.api import catalogue
from machinery.api.fielderror import FieldError, forbidden
from machinery.api.meta import Object
from machinery.api.resource import ResourceType

_TEMPLATE: Final = ("spec", "template", "spec")
_SPECS: Final[dict[ResourceType, tuple[str, ...]]] = {
    catalogue.PODS: ("spec",),
    catalogue.PODTEMPLATES: ("template", "spec"),
    catalogue.REPLICATIONCONTROLLERS: _TEMPLATE,
    catalogue.REPLICASETS: _TEMPLATE,
    catalogue.DEPLOYMENTS: _TEMPLATE,
    catalogue.DAEMONSETS: _TEMPLATE,
    catalogue.STATEFULSETS: _TEMPLATE,
    catalogue.JOBS: _TEMPLATE,
    catalogue.CRONJOBS: ("spec", "jobTemplate", *_TEMPLATE),
}


def refused(resource: ResourceType, obj: Object) -> list[FieldError]:
    """What in a pod, or in the pods that a kind makes, only a server with --allow-privileged takes."""
    path = _SPECS.get(resource)
    if path is None:
        return []
    at, spec = ".".join(path), sub(obj, *path)
    errors: list[FieldError] = []
    of_pod = flag(spec, "securityContext", "windowsOptions", "hostProcess")
    processes = False
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        for index, container in enumerate(items(spec, kind)):
            context = sub(container, "securityContext")
            if flag(context, "privileged"):
                where = f"{at}.{kind}[{index}].securityContext.privileged"
                errors.append(forbidden(where, "disallowed by cluster policy"))
            own = sub(context, "windowsOptions").get("hostProcess")
            processes = processes or (of_pod if own is None else own is True)
    if processes:
        errors.append(forbidden(at, "hostProcess containers are disallowed by cluster policy"))
    return errors
