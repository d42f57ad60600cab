"""PodSecurity: what a version of the standards asks for, and what only later ones do."""

from __future__ import annotations

import pytest
from auth_store import HARDENED, Store, named, updates

from controlplane.apiserver.admission.podsecurity import plugin
from controlplane.apiserver.admission.podsecurity.levels import BASELINE, RESTRICTED, Standard
from controlplane.apiserver.admission.podsecurity.plugin import findings
from machinery.api.catalogue import NAMESPACES, PODS


def test_versions_pin_the_checks() -> None:
    sysctl = {"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem"}]}}
    assert findings(Standard(BASELINE, 31), {}, sysctl)
    assert not findings(Standard(BASELINE, 32), {}, sysctl)
    assert not findings(
        Standard(BASELINE, 33), {}, {"containers": [{"name": "c", "startupProbe": {"tcpSocket": {"host": "x"}}}]}
    )
    windows = {"os": {"name": "windows"}, "securityContext": {"runAsNonRoot": True}, "containers": [{"name": "c"}]}
    assert not findings(Standard(RESTRICTED), {}, windows)


def test_root_in_a_user_namespace_is_nobody_on_the_node() -> None:
    container = HARDENED["containers"][0]
    context = container["securityContext"] | {"procMount": "Unmasked", "runAsUser": 0, "runAsNonRoot": False}
    spec = HARDENED | {"hostUsers": False, "containers": [container | {"securityContext": context}]}
    assert not findings(Standard(BASELINE), {}, spec)
    assert [reason for reason, _ in findings(Standard(BASELINE, 34), {}, spec)] == ["procMount"]
    assert [reason for reason, _ in findings(Standard(RESTRICTED), {}, spec)] == ["procMount"]
    old = [reason for reason, _ in findings(Standard(RESTRICTED, 34), {}, spec)]
    assert old == ["procMount", "runAsNonRoot != true", "runAsUser=0"]


async def test_a_stricter_namespace_looks_at_one_pod_of_each_controller_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin, "_MOST_PODS", 2)
    store = Store()
    for name, owner, spec in (("a", "u", {}), ("b", "u", {}), ("c", "", {"hostPID": True}), ("d", "", {})):
        made = named(name, "x", spec=spec | {"runtimeClassName": "exempt" if name == "d" else "other"})
        if owner:
            made["metadata"]["ownerReferences"] = [{"uid": owner, "controller": True}]
        store.put(PODS, made)
    old = named("x")
    new = named("x", metadata={"labels": {"pod-security.kubernetes.io/enforce": "baseline"}})
    operation = updates(NAMESPACES, new, old)
    await plugin.PodSecurity(store, plugin.Settings(exempt_runtime_classes=("exempt",))).validate(operation)
    assert operation.warnings == [
        "new PodSecurity enforce level only checked against the first 2 of 3 existing pods",
        'existing pods in namespace "x" violate the new PodSecurity enforce level "baseline:latest"',
        "c: host namespaces",
    ]
