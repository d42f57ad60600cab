"""PodSecurity: what a version of the standards asks for, and what only later ones do."""

from __future__ import annotations

from auth_store import HARDENED

from controlplane.apiserver.admission.podsecurity.levels import BASELINE, RESTRICTED, Standard
from controlplane.apiserver.admission.podsecurity.plugin import findings


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
