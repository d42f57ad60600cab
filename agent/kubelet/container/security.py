"""Security contexts of pods and containers in the runtime's terms.

Source: kubelet's kuberuntime/security_context.go and securitycontext; pod API SecurityContext, PodSecurityContext.
"""

from __future__ import annotations

import glob
import os.path
from collections.abc import Sequence
from functools import cache

from agent.cri import api_pb2 as pb
from agent.kubelet.container.errors import ContainerConfigError
from agent.kubelet.pods import spec
from machinery.api.meta import Object

MASKED_PATHS = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
_THROTTLING = "/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle"  # tells how busy neighbours are
READ_ONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


@cache
def masked_paths() -> tuple[str, ...]:
    """What containers do not see of this machine."""
    return (
        *MASKED_PATHS,
        *sorted(glob.glob(_THROTTLING), key=lambda path: int(path.split("/")[5].removeprefix("cpu"))),
    )


def namespaces(pod: Object, target_id: str = "", users: pb.UserNamespace | None = None) -> pb.NamespaceOption:
    """Which namespaces a pod (or a container that joins `target_id`) shares."""
    of_pod = pod["spec"]
    pid = pb.CONTAINER
    if of_pod.get("hostPID"):
        pid = pb.NODE
    elif of_pod.get("shareProcessNamespace"):
        pid = pb.POD
    elif target_id:
        pid = pb.TARGET
    return pb.NamespaceOption(
        network=pb.NODE if spec.is_host_network(pod) else pb.POD,
        pid=pid,
        ipc=pb.NODE if of_pod.get("hostIPC") else pb.POD,
        target_id=target_id,
        userns_options=users,
    )


def seccomp(profile: Object | None, root_dir: str, *, default: bool) -> pb.SecurityProfile:
    """A seccompProfile; without one it is the runtime's default (`default`) or none."""
    kind = (profile or {}).get("type")
    if profile is None or kind is None:
        return pb.SecurityProfile(
            profile_type=pb.SecurityProfile.RuntimeDefault if default else pb.SecurityProfile.Unconfined
        )
    if kind == "RuntimeDefault":
        return pb.SecurityProfile(profile_type=pb.SecurityProfile.RuntimeDefault)
    if kind == "Localhost":
        name = profile.get("localhostProfile") or ""
        if not name:
            raise ContainerConfigError("localhostProfile must be set if seccompProfile type is Localhost.")
        path = os.path.join(root_dir, "seccomp", name)
        return pb.SecurityProfile(profile_type=pb.SecurityProfile.Localhost, localhost_ref=path)
    return pb.SecurityProfile(profile_type=pb.SecurityProfile.Unconfined)


def _app_armor(profile: Object | None) -> pb.SecurityProfile | None:
    if not profile:
        return None
    kind = profile.get("type")
    if kind == "Localhost":
        return pb.SecurityProfile(
            profile_type=pb.SecurityProfile.Localhost, localhost_ref=profile.get("localhostProfile") or ""
        )
    unconfined = kind == "Unconfined"
    return pb.SecurityProfile(
        profile_type=pb.SecurityProfile.Unconfined if unconfined else pb.SecurityProfile.RuntimeDefault
    )


def _selinux(options: Object | None) -> pb.SELinuxOption | None:
    if not options:
        return None
    return pb.SELinuxOption(**{name: options.get(name) or "" for name in ("user", "role", "type", "level")})


def _int64(value: int | None) -> pb.Int64Value | None:
    return None if value is None else pb.Int64Value(value=value)


def supplemental_groups(pod: Object, extra: Sequence[int] = ()) -> list[int]:
    """fsGroup, supplementalGroups and groups that volumes bring."""
    of_pod = pod["spec"].get("securityContext") or {}
    found = [of_pod["fsGroup"]] if of_pod.get("fsGroup") is not None else []
    return list(dict.fromkeys([*found, *(of_pod.get("supplementalGroups") or ()), *extra]))


def _groups_policy(pod: Object) -> pb.SupplementalGroupsPolicy:
    of_pod = pod["spec"].get("securityContext") or {}
    return pb.Strict if of_pod.get("supplementalGroupsPolicy") == "Strict" else pb.Merge


def has_privileged(pod: Object) -> bool:
    """Whether any container is privileged."""
    return any((c.get("securityContext") or {}).get("privileged") for c in spec.all_containers(pod))


def of_sandbox(pod: Object, users: pb.UserNamespace | None = None) -> pb.LinuxSandboxSecurityContext:
    """The sandbox's own; `users` is its user namespace, if it is not the host's."""
    of_pod = pod["spec"].get("securityContext") or {}
    user = of_pod.get("runAsUser")
    return pb.LinuxSandboxSecurityContext(
        namespace_options=namespaces(pod, users=users),
        privileged=has_privileged(pod),
        # The pause process needs nothing: always confined, whatever the containers are.
        seccomp=pb.SecurityProfile(profile_type=pb.SecurityProfile.RuntimeDefault),
        run_as_user=_int64(user),
        run_as_group=_int64(of_pod.get("runAsGroup")) if user is not None else None,
        supplemental_groups=supplemental_groups(pod),
        supplemental_groups_policy=_groups_policy(pod),
        selinux_options=_selinux(of_pod.get("seLinuxOptions")),
    )


def sysctls(pod: Object) -> dict[str, str]:
    """The pod's sysctls; slashes are read as dots."""
    of_pod = pod["spec"].get("securityContext") or {}
    return {s["name"].replace("/", "."): s["value"] for s in of_pod.get("sysctls") or ()}


def of_container(
    pod: Object,
    container: Object,
    image: pb.Image,
    *,
    root_dir: str,
    seccomp_default: bool,
    extra_groups: Sequence[int] = (),
    target_id: str = "",
    users: pb.UserNamespace | None = None,
) -> pb.LinuxContainerSecurityContext:
    """A container's. Raises ContainerConfigError when it must not run as root and would."""
    own = spec.effective_security(pod, container)
    image_uid = image.uid.value if image.HasField("uid") else None
    _verify_non_root(pod, container, own, image_uid, image.username)
    user = own.get("runAsUser", image_uid if not image.username else None)
    privileged = bool(own.get("privileged"))
    capabilities = own.get("capabilities") or {}
    unmasked = own.get("procMount") == "Unmasked"
    return pb.LinuxContainerSecurityContext(
        capabilities=pb.Capability(
            add_capabilities=capabilities.get("add") or (), drop_capabilities=capabilities.get("drop") or ()
        ),
        privileged=privileged,
        namespace_options=namespaces(pod, target_id, users),
        selinux_options=_selinux(own.get("seLinuxOptions")),
        run_as_user=_int64(user),
        run_as_username=image.username if user is None else "",
        run_as_group=_int64(own.get("runAsGroup")),
        readonly_rootfs=bool(own.get("readOnlyRootFilesystem")),
        supplemental_groups=supplemental_groups(pod, extra_groups),
        supplemental_groups_policy=_groups_policy(pod),
        no_new_privs=own.get("allowPrivilegeEscalation") is False,
        masked_paths=() if unmasked or privileged else masked_paths(),
        readonly_paths=() if unmasked or privileged else READ_ONLY_PATHS,
        seccomp=pb.SecurityProfile(profile_type=pb.SecurityProfile.Unconfined)
        if privileged
        else seccomp(own.get("seccompProfile"), root_dir, default=seccomp_default),
        apparmor=_app_armor(own.get("appArmorProfile")),
    )


def _verify_non_root(pod: Object, container: Object, own: Object, image_uid: int | None, username: str) -> None:
    if not own.get("runAsNonRoot"):
        return
    where = f'pod: "{spec.describe(pod)}", container: {container["name"]}'
    if own.get("runAsUser") is not None:
        if own["runAsUser"] == 0:
            raise ContainerConfigError(f"container's runAsUser breaks non-root policy ({where})")
        return
    if username:
        raise ContainerConfigError(
            f"container has runAsNonRoot and image has non-numeric user ({username}), cannot verify user is non-root "
            f"({where})"
        )
    if not image_uid:
        raise ContainerConfigError(f"container has runAsNonRoot and image will run as root ({where})")
