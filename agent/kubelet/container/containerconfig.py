"""What the runtime is told about one container.

Source: kubelet's kuberuntime_container.go (generateContainerConfig) and kubelet_pods.go (makeMounts).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agent.cri import api_pb2 as pb
from agent.kubelet.container import hostsfile, identity, resources, security
from agent.kubelet.container.deviceneeds import DeviceNeeds
from agent.kubelet.container.errors import ContainerConfigError
from agent.kubelet.container.expansion import expand
from agent.kubelet.pods import spec
from agent.kubelet.settings import Settings
from agent.kubelet.volumes import subpath
from agent.kubelet.volumes.model import MountedVolume
from machinery.api import meta
from machinery.api.meta import Object

_PROPAGATION = {
    "None": pb.PROPAGATION_PRIVATE,
    "HostToContainer": pb.PROPAGATION_HOST_TO_CONTAINER,
    "Bidirectional": pb.PROPAGATION_BIDIRECTIONAL,
}
_HOSTS_PATH = "/etc/hosts"


@dataclass(frozen=True, slots=True)
class ContainerInputs:
    """All that a container's configuration is made of, beside pod and container."""

    settings: Settings
    root_dir: str
    pod_dir: str
    rules: resources.Rules
    image: pb.Image
    environment: Mapping[str, str]
    pod_ips: Sequence[str]
    volumes: Mapping[str, MountedVolume]
    restart_count: int
    target_id: str = ""  # the container whose processes an ephemeral one sees
    extra_groups: Sequence[int] = field(default_factory=tuple)
    users: pb.UserNamespace | None = None
    needs: DeviceNeeds = field(default_factory=DeviceNeeds)


def log_path(container_name: str, restart_count: int) -> str:
    """Where a container's log is, below the pod's log directory."""
    return f"{container_name}/{restart_count}.log"


def build(pod: Object, container: Object, inputs: ContainerInputs) -> pb.ContainerConfig:
    """The container's configuration; makes the files that it mounts. Raises ContainerConfigError."""
    name = container["name"]
    values = inputs.environment
    config = pb.ContainerConfig(
        metadata=pb.ContainerMetadata(name=name, attempt=inputs.restart_count),
        image=pb.ImageSpec(image=inputs.image.id, user_specified_image=container.get("image") or ""),
        command=[expand(part, values) for part in container.get("command") or ()],
        args=[expand(part, values) for part in container.get("args") or ()],
        working_dir=container.get("workingDir") or "",
        envs=[pb.KeyValue(key=key, value=value) for key, value in values.items()],
        mounts=_mounts(pod, container, inputs),
        labels=identity.container_labels(pod, container),
        annotations=identity.container_annotations(pod, container, inputs.restart_count),
        log_path=log_path(name, inputs.restart_count),
        stdin=bool(container.get("stdin")),
        stdin_once=bool(container.get("stdinOnce")),
        tty=bool(container.get("tty")),
        linux=pb.LinuxContainerConfig(
            resources=resources.of_container(pod, container, inputs.rules),
            security_context=security.of_container(
                pod,
                container,
                inputs.image,
                root_dir=inputs.root_dir,
                seccomp_default=inputs.settings.seccomp_default,
                extra_groups=inputs.extra_groups,
                target_id=inputs.target_id,
                users=inputs.users,
            ),
        ),
    )
    stop_signal = (container.get("lifecycle") or {}).get("stopSignal")
    if stop_signal:
        config.stop_signal = pb.Signal.Value(stop_signal)  # type: ignore[assignment]
    config.devices.extend(_block_devices(container, inputs))
    inputs.needs.add_to(config)
    return config


def _block_devices(container: Object, inputs: ContainerInputs) -> list[pb.Device]:
    made = []
    for wanted in container.get("volumeDevices") or ():
        volume = inputs.volumes.get(wanted["name"])
        if volume is None or not volume.device:
            raise ContainerConfigError(f'cannot find volume "{wanted["name"]}" to pass into container')
        permissions = "r" if volume.read_only else "mrw"
        path = os.path.realpath(volume.device)
        made.append(pb.Device(container_path=wanted["devicePath"], host_path=path, permissions=permissions))
    return made


def _mounts(pod: Object, container: Object, inputs: ContainerInputs) -> list[pb.Mount]:
    made = [
        _volume_mount(container, mount, index, inputs)
        for index, mount in enumerate(container.get("volumeMounts") or ())
    ]
    taken = {mount.container_path for mount in made}
    if _HOSTS_PATH not in taken:
        made.append(pb.Mount(container_path=_HOSTS_PATH, host_path=_hosts_file(pod, inputs)))
    message_path = container.get("terminationMessagePath")
    if message_path and message_path not in taken:
        made.append(pb.Mount(container_path=message_path, host_path=_message_file(container, inputs)))
    return made


def _volume_mount(container: Object, mount: Object, index: int, inputs: ContainerInputs) -> pb.Mount:
    name = mount["name"]
    volume = inputs.volumes.get(name)
    if volume is None:
        raise ContainerConfigError(f'cannot find volume "{name}" to mount into container "{container["name"]}"')
    path = mount["mountPath"]
    if not path.startswith("/"):
        path = "/" + path
    inside = mount.get("subPath") or ""
    if mount.get("subPathExpr"):
        inside = _expanded(mount["subPathExpr"], inputs.environment)
    read_only = bool(mount.get("readOnly")) or volume.read_only
    made = pb.Mount(
        container_path=path,
        readonly=read_only,
        propagation=_PROPAGATION[mount.get("mountPropagation") or "None"],
        recursive_read_only=mount.get("recursiveReadOnly") == "Enabled",
    )
    if volume.image is not None:
        made.image.image = volume.image.get("reference") or ""
        made.image_sub_path = inside
    elif inside:
        made.host_path = subpath.prepare(inputs.pod_dir, name, volume.path, inside, container["name"], index)
    else:
        made.host_path = volume.path
    return made


def _expanded(text: str, values: Mapping[str, str]) -> str:
    expanded = expand(text, values)
    if "$(" in expanded:
        raise ContainerConfigError(f"missing value for subPathExpr {text!r}")
    return expanded


def _hosts_file(pod: Object, inputs: ContainerInputs) -> str:
    of_host = None
    if spec.is_host_network(pod):
        try:
            with open(_HOSTS_PATH, encoding="utf-8", errors="replace") as file:
                of_host = file.read()
        except OSError as error:
            raise ContainerConfigError(f"cannot read {_HOSTS_PATH}: {error.strerror}") from error
    text = hostsfile.content(pod, inputs.pod_ips, inputs.settings.cluster_domain, of_host)
    path = os.path.join(inputs.pod_dir, "etc-hosts")
    _write_in_place(path, text, 0o644)
    return path


def _write_in_place(path: str, text: str, mode: int) -> None:
    # The file is mounted into running containers: it is written over, not replaced.
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            os.fchmod(handle, mode)
            file.write(text)
    except OSError as error:
        raise ContainerConfigError(f"cannot write {path}: {error.strerror}") from error


def _message_file(container: Object, inputs: ContainerInputs) -> str:
    directory = os.path.join(inputs.pod_dir, "containers", container["name"])
    path = os.path.join(directory, secrets.token_hex(4))
    try:
        os.makedirs(directory, mode=0o750, exist_ok=True)
    except OSError as error:
        raise ContainerConfigError(f"cannot make {directory}: {error.strerror}") from error
    _write_in_place(path, "", 0o666)
    return path


def restart_count_of_logs(log_directory: str, container_name: str) -> int:
    """The next restart count by the log files that are there, when no container is left to tell."""
    try:
        names = os.listdir(os.path.join(log_directory, container_name))
    except OSError:
        return 0
    counts = [int(name.split(".", 1)[0]) for name in names if name.split(".", 1)[0].isdigit() and ".log" in name]
    return max(counts) + 1 if counts else 0


def symlink_name(pod: Object, container_name: str, container_id: str) -> str:
    """The name in /var/log/containers, where log collectors look."""
    return f"{meta.name_of(pod)}_{meta.namespace_of(pod)}_{container_name}-{container_id}.log"
