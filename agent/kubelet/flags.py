"""The kubelet's command line.

Source: kubelet 1.36 --help; flags that stand for fields of the configuration file are in `settings`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from agent.kubelet import settingsfile as config
from agent.kubelet.settings import FLAGS, Settings
from machinery.errors import SettingsError
from machinery.settings import Flag, FlagSet, load_config, mapping

CONFIG_VERSIONS = ("kubelet.config.k8s.io/v1beta1",)

_OWN = (
    Flag("config", str, "", "path to a KubeletConfiguration file"),
    Flag("config-dir", str, "", "directory of *.conf files that are merged over --config"),
    Flag("kubeconfig", str, "", "how to reach the API server; empty: run static pods alone"),
    Flag("bootstrap-kubeconfig", str, "", "used once to get a client certificate when --kubeconfig doesn't exist"),
    Flag("cert-dir", str, "/var/lib/kubelet/pki", "where certificates are kept"),
    Flag("root-dir", str, "/var/lib/kubelet", "where volumes and other files of pods are kept"),
    Flag("hostname-override", str, "", "name of the node; empty: the host's name"),
    Flag("node-ip", str, "", "address (or one IPv4 and one IPv6 address) of the node; empty: found out"),
    Flag("node-labels", mapping, {}, "labels to add when the node is registered"),
    Flag("cloud-provider", str, "", "external: a cloud controller manager finishes the node's registration"),
    Flag("image-credential-provider-config", str, "", "path to a CredentialProviderConfig file"),
    Flag("image-credential-provider-bin-dir", str, "", "directory of the credential providers' programs"),
    Flag("v", int, 0, "number for the log level verbosity"),
)

_HARMLESS = (
    "container-runtime",
    "pod-infra-container-image",
    "runtime-cgroups",
    "kubelet-cgroups",
    "logging-format",
    "log-flush-frequency",
    "log-json-info-buffer-size",
    "log-json-split-stream",
    "log-text-info-buffer-size",
    "log-text-split-stream",
    "vmodule",
    "event-qps",
    "event-burst",
    "kube-api-qps",
    "kube-api-burst",
    "kube-api-content-type",
    "max-open-files",
    "hairpin-mode",
    "volume-plugin-dir",
    "enable-controller-attach-detach",
    "iptables-masquerade-bit",
    "iptables-drop-bit",
    "kernel-memcg-notification",
    "contention-profiling",
    "volume-stats-agg-period",
)

_LABEL_PREFIXES_ALLOWED = ("kubelet.kubernetes.io/", "node.kubernetes.io/")
_LABELS_ALLOWED = frozenset(
    (
        "kubernetes.io/hostname",
        "kubernetes.io/arch",
        "kubernetes.io/os",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "kubernetes.io/os.version",
    )
)


@dataclass(frozen=True)
class Options:
    """The command line, with the configuration file merged in."""

    settings: Settings
    kubeconfig: str
    bootstrap_kubeconfig: str
    cert_dir: str
    root_dir: str
    node_name: str
    node_ips: tuple[str, ...]  # empty: to be found out
    node_labels: dict[str, str]
    cloud_provider: str
    verbosity: int
    credential_config: str = ""
    credential_dir: str = ""


def parse(argv: Sequence[str]) -> Options:
    """Read flags and files. Raises SettingsError naming flag, file or field; SystemExit for --help."""
    field_flags = [
        Flag(name, partial(config.flag_value, name), None, f"see {field.metadata['path']}")
        for name, field in FLAGS.items()
    ]
    values = FlagSet("kubelet", [*_OWN, *field_flags], _HARMLESS).parse(_with_switches(argv))
    from_file: dict[str, Any] = {}
    for path in [values["config"], *_drop_ins(values["config-dir"])]:
        if path:
            # A later file wins field by field; lists and maps are taken as a whole.
            from_file |= config.parse(load_config(path, "KubeletConfiguration", CONFIG_VERSIONS), path)
    from_flags = {field.name: values[name] for name, field in FLAGS.items() if values[name] is not None}
    if values["cloud-provider"] not in ("", "external"):
        raise SettingsError(f"--cloud-provider={values['cloud-provider']}: only external is supported")
    _check_labels(values["node-labels"])
    return Options(
        settings=config.build(from_file, from_flags),
        kubeconfig=values["kubeconfig"],
        bootstrap_kubeconfig=values["bootstrap-kubeconfig"],
        cert_dir=values["cert-dir"],
        root_dir=values["root-dir"].rstrip("/") or "/",
        node_name=(values["hostname-override"] or socket.gethostname()).strip().lower(),
        node_ips=tuple(part.strip() for part in values["node-ip"].split(",") if part.strip()),
        node_labels=values["node-labels"],
        cloud_provider=values["cloud-provider"],
        verbosity=values["v"],
        credential_config=values["image-credential-provider-config"],
        credential_dir=values["image-credential-provider-bin-dir"],
    )


def _drop_ins(directory: str) -> list[str]:
    if not directory:
        return []
    try:
        names = sorted(name for name in os.listdir(directory) if name.endswith(".conf"))
    except OSError as error:
        raise SettingsError(f"--config-dir: cannot read {directory}: {error.strerror}") from error
    return [os.path.join(directory, name) for name in names]


def _with_switches(argv: Sequence[str]) -> list[str]:
    # `--register-node` alone means true; the flag set knows this only of flags it parses itself.
    switches = {name for name, field in FLAGS.items() if isinstance(field.default, bool)}
    return [f"{a}=true" if a.startswith("--") and a[2:] in switches else a for a in argv]


def _check_labels(labels: dict[str, str]) -> None:
    """Refuse labels of kubernetes.io that a node may not give itself (NodeRestriction would refuse them later)."""
    wrong = []
    for label in labels:
        namespace = label.rpartition("/")[0]
        reserved = namespace in ("kubernetes.io", "k8s.io") or namespace.endswith((".kubernetes.io", ".k8s.io"))
        allowed = label in _LABELS_ALLOWED or any(
            label.startswith(prefix) or f".{prefix}" in label for prefix in _LABEL_PREFIXES_ALLOWED
        )
        if reserved and not allowed:
            wrong.append(label)
    if wrong:
        raise SettingsError(
            f"--node-labels: unknown 'kubernetes.io' or 'k8s.io' labels specified: {sorted(wrong)}: they must begin "
            f"with an allowed prefix (kubelet.kubernetes.io, node.kubernetes.io) or be one of the allowed set"
        )
