"""The checks of the baseline level: known ways out of a container.

Each check gets (pod metadata, pod spec, minor version) and says what is wrong as (reason, detail), or None.

Source: k8s.io/pod-security-admission/policy/check_*.go; kubernetes.io, "Pod Security Standards".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from machinery.api.fielderror import show
from machinery.api.meta import Object

Finding = tuple[str, str] | None
Check = Callable[[Object, Object, int], Finding]

_CAPABILITIES = frozenset(
    {
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    }
)
_SYSCTLS: tuple[tuple[int, str], ...] = (
    (0, "kernel.shm_rmid_forced"),
    (0, "net.ipv4.ip_local_port_range"),
    (0, "net.ipv4.tcp_syncookies"),
    (0, "net.ipv4.ping_group_range"),
    (0, "net.ipv4.ip_unprivileged_port_start"),
    (27, "net.ipv4.ip_local_reserved_ports"),
    (29, "net.ipv4.tcp_keepalive_time"),
    (29, "net.ipv4.tcp_fin_timeout"),
    (29, "net.ipv4.tcp_keepalive_intvl"),
    (29, "net.ipv4.tcp_keepalive_probes"),
    (32, "net.ipv4.tcp_rmem"),
    (32, "net.ipv4.tcp_wmem"),
)
"""(minor version since when, name)."""

_SELINUX_TYPES = frozenset({"", "container_t", "container_init_t", "container_kvm_t"})
_SELINUX_ENGINE_SINCE = 31
_HOST_PROBES_SINCE = 34
_SECCOMP_FIELDS_SINCE = 19
_USER_NAMESPACES_SINCE = 35
_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"


def containers(spec: Object) -> Iterator[Any]:
    """All containers of a pod, in the order in which they are looked at."""
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(kind) or ()


def context(holder: Any) -> Any:
    """securityContext of a pod's spec or a container, or {}."""
    return holder.get("securityContext") or {}


def quoted(names: Iterable[str]) -> str:
    """Names in quotation marks."""
    return ", ".join(map(show, names))


def several(names: Sequence[str], singular: str = "container") -> str:
    """`container "a"`, `containers "a", "b"`."""
    return f"{singular if len(names) == 1 else singular + 's'} {quoted(names)}"


def setters(pod: bool, names: Sequence[str]) -> str:
    """Who sets something: the pod, containers, or both."""
    who = (["pod"] if pod else []) + ([several(names)] if names else [])
    return " and ".join(who)


def app_armor(metadata: Object, spec: Object, minor: int) -> Finding:
    """Only the runtime's own profile, or one of the node's."""
    values: set[str] = set()

    def bad(holder: Any) -> bool:
        kind = (context(holder).get("appArmorProfile") or {}).get("type")
        if kind is None or kind in ("RuntimeDefault", "Localhost"):
            return False
        values.add(kind)
        return True

    pod = bad(spec)
    names = [c["name"] for c in containers(spec) if bad(c)]
    annotations = sorted(
        f"{key}={show(value)}"
        for key, value in (metadata.get("annotations") or {}).items()
        if key.startswith(_APPARMOR) and value not in ("", "runtime/default") and not value.startswith("localhost/")
    )
    told = [setters(pod, names)] if pod or names else []
    if annotations:
        told.append("annotation" if len(annotations) == 1 else "annotations")
    if not told:
        return None
    shown = [*sorted(values), *annotations]
    reason = "forbidden AppArmor profile" + ("" if len(shown) == 1 else "s")
    return reason, f"{' and '.join(told)} must not set AppArmor profile type to {quoted(shown)}"


def capabilities(metadata: Object, spec: Object, minor: int) -> Finding:
    """No capabilities beyond the usual ones."""
    names: list[str] = []
    added: set[str] = set()
    for container in containers(spec):
        bad = set((context(container).get("capabilities") or {}).get("add") or ()) - _CAPABILITIES
        if bad:
            names.append(container["name"])
            added |= bad
    if not names:
        return None
    detail = f"{several(names)} must not include {quoted(sorted(added))} in securityContext.capabilities.add"
    return "non-default capabilities", detail


def host_namespaces(metadata: Object, spec: Object, minor: int) -> Finding:
    """Namespaces of its own."""
    used = [f"{key}=true" for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    return ("host namespaces", ", ".join(used)) if used else None


def host_path(metadata: Object, spec: Object, minor: int) -> Finding:
    """Nothing of the host's files."""
    names = [v["name"] for v in spec.get("volumes") or () if v.get("hostPath") is not None]
    return ("hostPath volumes", several(names, "volume")) if names else None


def host_ports(metadata: Object, spec: Object, minor: int) -> Finding:
    """No ports of the host."""
    names: list[str] = []
    ports: set[str] = set()
    for container in containers(spec):
        bad = {str(port["hostPort"]) for port in container.get("ports") or () if port.get("hostPort")}
        if bad:
            names.append(container["name"])
            ports |= bad
    if not names:
        return None
    uses = "uses" if len(names) == 1 else "use"
    called = "hostPort" if len(ports) == 1 else "hostPorts"
    return "hostPort", f"{several(names)} {uses} {called} {', '.join(sorted(ports))}"


def host_probes(metadata: Object, spec: Object, minor: int) -> Finding:
    """The kubelet asks no other hosts in a pod's name."""
    if minor < _HOST_PROBES_SINCE:
        return None
    names: set[str] = set()
    hosts: set[str] = set()
    for container in containers(spec):
        handlers = [container.get(key) for key in ("livenessProbe", "readinessProbe", "startupProbe")]
        lifecycle = container.get("lifecycle") or {}
        handlers += [lifecycle.get("postStart"), lifecycle.get("preStop")]
        for handler in filter(None, handlers):
            for kind in ("httpGet", "tcpSocket"):
                host = (handler.get(kind) or {}).get("host")
                if host:
                    names.add(container["name"])
                    hosts.add(host)
    if not names:
        return None
    uses = "uses" if len(names) == 1 else "use"
    called = "probe or lifecycle host" + ("" if len(hosts) == 1 else "s")
    return "probe or lifecycle host", f"{several(sorted(names))} {uses} {called} {quoted(sorted(hosts))}"


def privileged(metadata: Object, spec: Object, minor: int) -> Finding:
    """No privileged containers."""
    names = [c["name"] for c in containers(spec) if context(c).get("privileged")]
    return ("privileged", f"{several(names)} must not set securityContext.privileged=true") if names else None


def in_user_namespace(spec: Object, minor: int) -> bool:
    """Whether root in the pod is nobody on the node, and is that taken into account."""
    return minor >= _USER_NAMESPACES_SINCE and spec.get("hostUsers") is False


def proc_mount(metadata: Object, spec: Object, minor: int) -> Finding:
    """/proc masked as usual, unless the pod's root is not the node's."""
    return None if in_user_namespace(spec, minor) else masked_proc(metadata, spec, minor)


def masked_proc(metadata: Object, spec: Object, minor: int) -> Finding:
    """/proc masked as usual."""
    kinds = {c["name"]: context(c).get("procMount") for c in containers(spec)}
    bad = {name: kind for name, kind in kinds.items() if kind not in (None, "Default")}
    if not bad:
        return None
    detail = f"{several(list(bad))} must not set securityContext.procMount to {quoted(sorted(set(bad.values())))}"
    return "procMount", detail


def se_linux(metadata: Object, spec: Object, minor: int) -> Finding:
    """SELinux types of containers, without a user or role of its own."""
    allowed = _SELINUX_TYPES | ({"container_engine_t"} if minor >= _SELINUX_ENGINE_SINCE else set())
    types: set[str] = set()
    told: set[str] = set()

    def bad(holder: Any) -> bool:
        options = context(holder).get("seLinuxOptions") or {}
        found = False
        if (kind := options.get("type") or "") not in allowed:
            types.add(kind)
            found = True
        for key in ("user", "role"):
            if options.get(key):
                told.add(f"{key} may not be set")
                found = True
        return found

    pod = bad(spec)
    names = [c["name"] for c in containers(spec) if bad(c)]
    if not pod and not names:
        return None
    details = [several(sorted(types), "type")] if types else []
    details += sorted(told, reverse=True)  # user before role
    who = setters(pod, names)
    return "seLinuxOptions", f"{who} set forbidden securityContext.seLinuxOptions: {'; '.join(details)}"


def seccomp(metadata: Object, spec: Object, minor: int) -> Finding:
    """Not explicitly without seccomp."""
    if minor < _SECCOMP_FIELDS_SINCE:
        return None
    values: set[str] = set()

    def bad(holder: Any) -> bool:
        kind = (context(holder).get("seccompProfile") or {}).get("type")
        if kind is None or kind in ("RuntimeDefault", "Localhost"):
            return False
        values.add(kind)
        return True

    pod = bad(spec)
    names = [c["name"] for c in containers(spec) if bad(c)]
    if not pod and not names:
        return None
    detail = f"{setters(pod, names)} must not set securityContext.seccompProfile.type to {quoted(sorted(values))}"
    return "seccompProfile", detail


def sysctls(metadata: Object, spec: Object, minor: int) -> Finding:
    """Only sysctls that are a pod's own."""
    allowed = {name for since, name in _SYSCTLS if minor >= since}
    bad = [s["name"] for s in context(spec).get("sysctls") or () if s.get("name") not in allowed]
    return ("forbidden sysctls", ", ".join(bad)) if bad else None


def windows_host_process(metadata: Object, spec: Object, minor: int) -> Finding:
    """No host processes."""

    def bad(holder: Any) -> bool:
        return bool((context(holder).get("windowsOptions") or {}).get("hostProcess"))

    pod = bad(spec)
    names = [c["name"] for c in containers(spec) if bad(c)]
    if not pod and not names:
        return None
    return "hostProcess", f"{setters(pod, names)} must not set securityContext.windowsOptions.hostProcess=true"


CHECKS: dict[str, Check] = {
    "appArmorProfile": app_armor,
    "capabilities_baseline": capabilities,
    "hostNamespaces": host_namespaces,
    "hostPathVolumes": host_path,
    "hostPorts": host_ports,
    "hostProbesAndHostLifecycle": host_probes,
    "privileged": privileged,
    "procMount": proc_mount,
    "seLinuxOptions": se_linux,
    "seccompProfile_baseline": seccomp,
    "sysctls": sysctls,
    "windowsHostProcess": windows_host_process,
}
"""By upstream's ids, in the order in which findings are told."""
