"""The manager's flags: kube-controller-manager's own names, defaults and meanings.

Source: https://kubernetes.io/docs/reference/command-line-tools-reference/kube-controller-manager/.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from machinery import component, servingguard
from machinery.errors import SettingsError
from machinery.settings import Flag, FlagSet, boolean, duration, strings

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_CONCURRENT = {
    "cron-job": 5,
    "daemonset": 2,
    "deployment": 5,
    "device-taint-eviction": 8,
    "endpoint": 5,
    "ephemeralvolume": 5,
    "gc": 20,
    "horizontal-pod-autoscaler": 5,
    "job": 5,
    "namespace": 10,
    "rc": 5,
    "replicaset": 5,
    "resource-quota": 5,
    "resourceclaim": 10,
    "service-endpoint": 5,
    "serviceaccount-token": 5,
    "statefulset": 5,
    "ttl-after-finished": 5,
    "validating-admission-policy-status": 5,
}


def _count(text: str) -> int:
    number = int(text)
    if number <= 0:
        raise ValueError("must be greater than 0")
    return number


def _network_list(text: str) -> list[Network]:
    return [ipaddress.ip_network(part) for part in strings(text)]


_FLAGS = [
    *component.CLIENT_FLAGS,
    *component.SERVING_FLAGS,
    *servingguard.FLAGS,
    *component.LEADER_FLAGS,
    *component.LOG_FLAGS,
    Flag("controllers", strings, ["*"], "controllers to run: '*' all that are on by default, 'foo' on, '-foo' off"),
    *(
        Flag(f"concurrent-{name}-syncs", _count, default, "objects worked on at the same time")
        for name, default in _CONCURRENT.items()
    ),
    Flag("mirroring-concurrent-service-endpoint-syncs", _count, 5, "Endpoints mirrored at the same time"),
    Flag("secure-port", int, 10257, "port to serve health and metrics on; 0: do not serve"),
    Flag("allocate-node-cidrs", boolean, False, "give every node a pod network"),
    Flag("cluster-cidr", _network_list, [], "the pods' network, one each IP family"),
    Flag("service-cluster-ip-range", _network_list, [], "the services' network"),
    Flag("node-cidr-mask-size", int, 0, "size of a node's pod network; one family only"),
    Flag("node-cidr-mask-size-ipv4", int, 0, "the same of IPv4 (24)"),
    Flag("node-cidr-mask-size-ipv6", int, 0, "the same of IPv6 (64)"),
    Flag("cidr-allocator-type", str, "RangeAllocator", "how pod networks are given out"),
    Flag("cluster-name", str, "kubernetes", "prefix of the cluster's instances"),
    Flag("cluster-signing-cert-file", str, "", "authority that signs certificate requests of every signer"),
    Flag("cluster-signing-key-file", str, "", "its key"),
    *(
        Flag(f"cluster-signing-{signer}-{part}-file", str, "", f"the {part} for kubernetes.io/{signer} alone")
        for signer in ("kube-apiserver-client", "kubelet-client", "kubelet-serving", "legacy-unknown")
        for part in ("cert", "key")
    ),
    Flag("cluster-signing-duration", duration, 365 * 24 * 3600.0, "how long signed certificates are valid"),
    Flag("root-ca-file", str, "", "certificate authority to publish to every namespace"),
    Flag("service-account-private-key-file", str, "", "key that signs token Secrets"),
    Flag("use-service-account-credentials", boolean, False, "act as one ServiceAccount for each controller"),
    Flag("node-monitor-period", duration, 5.0, "how often nodes' heartbeats are checked"),
    Flag("node-monitor-grace-period", duration, 50.0, "how long a node may be silent before its state is Unknown"),
    Flag("node-startup-grace-period", duration, 60.0, "the same for a node that has just registered"),
    Flag("node-eviction-rate", float, 0.1, "nodes a second that pods are evicted from"),
    Flag("secondary-node-eviction-rate", float, 0.01, "the same while a large zone is unhealthy"),
    Flag("large-cluster-size-threshold", int, 50, "nodes from which a zone counts as large"),
    Flag("unhealthy-zone-threshold", float, 0.55, "share of nodes not ready that makes a zone unhealthy"),
    Flag("terminated-pod-gc-threshold", int, 12500, "finished pods kept; 0 or less: all"),
    Flag("enable-garbage-collector", boolean, True, "delete what has lost its owners"),
    Flag("namespace-sync-period", duration, 300.0, "how often namespaces are looked at again"),
    Flag("resource-quota-sync-period", duration, 300.0, "how often quotas are counted in full"),
    Flag("horizontal-pod-autoscaler-sync-period", duration, 15.0, "how often pods are scaled"),
    Flag("horizontal-pod-autoscaler-downscale-stabilization", duration, 300.0, "how far back to look before shrinking"),
    Flag(
        "horizontal-pod-autoscaler-cpu-initialization-period", duration, 300.0, "CPU of pods this young is not counted"
    ),
    Flag(
        "horizontal-pod-autoscaler-initial-readiness-delay", duration, 30.0, "readiness changes this early are ignored"
    ),
    Flag("horizontal-pod-autoscaler-tolerance", float, 0.1, "deviation from the target that is let be"),
    Flag("enable-hostpath-provisioner", boolean, False, "make host paths volumes of claims; not supported"),
    Flag("cloud-provider", str, "", "who runs the cloud's controllers: external, or nobody"),
    Flag("cloud-config", str, "", "settings of the cloud provider; none is built in"),
    Flag("pvclaimbinder-sync-period", duration, 15.0, "how often volumes and claims are looked at again"),
    Flag("attach-detach-reconcile-sync-period", duration, 60.0, "how often attachments are compared in full"),
    Flag("disable-attach-detach-reconcile-sync", boolean, False, "never compare attachments in full"),
    Flag("disable-force-detach-on-timeout", boolean, False, "never detach from a node that does not answer"),
    Flag("max-endpoints-per-slice", _count, 100, "addresses in an EndpointSlice"),
    Flag("mirroring-max-endpoints-per-subset", _count, 1000, "addresses mirrored of one Endpoints subset"),
    Flag("endpoint-updates-batch-period", duration, 0.0, "wait to gather changes of Endpoints"),
    Flag("endpointslice-updates-batch-period", duration, 0.0, "wait to gather changes of EndpointSlices"),
    Flag("mirroring-endpointslice-updates-batch-period", duration, 0.0, "wait to gather changes to mirror"),
    Flag("legacy-service-account-token-clean-up-period", duration, 8760 * 3600.0, "age at which unused tokens go"),
]

_HARMLESS = (
    *component.HARMLESS,
    "allow-untagged-cloud",
    "concurrent-service-syncs",
    "configure-cloud-routes",
    "controller-start-interval",
    "controller-shutdown-timeout",
    "enable-dynamic-provisioning",
    "enable-leader-migration",
    "flex-volume-plugin-dir",
    "leader-migration-config",
    "min-resync-period",
    "node-sync-period",
    "pv-recycler-increment-timeout-nfs",
    "pv-recycler-minimum-timeout-hostpath",
    "pv-recycler-minimum-timeout-nfs",
    "pv-recycler-pod-template-filepath-hostpath",
    "pv-recycler-pod-template-filepath-nfs",
    "pv-recycler-timeout-increment-hostpath",
    "route-reconciliation-period",
    "tls-curve-preferences",
)


@dataclass(frozen=True)
class Options:
    """Checked settings. Durations in seconds."""

    flags: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        """The value of a flag by its name."""
        return self.flags[name]

    @property
    def shown(self) -> dict[str, Any]:
        """The settings as /configz shows them."""
        plain = {k: [str(n) for n in v] if isinstance(v, list) else v for k, v in self.flags.items()}
        return {"kubecontrollermanager.config.k8s.io": plain}

    def concurrent(self, what: str) -> int:
        """Workers of a controller: `--concurrent-WHAT-syncs`."""
        return int(self.flags[f"concurrent-{what}-syncs"])

    def node_mask_size(self, network: Network) -> int:
        """Prefix length of a node's pod network inside this cluster network."""
        if network.version == 4:
            return int(self["node-cidr-mask-size-ipv4"] or self["node-cidr-mask-size"] or 24)
        one_family = len(self["cluster-cidr"]) == 1
        return int(self["node-cidr-mask-size-ipv6"] or (self["node-cidr-mask-size"] if one_family else 0) or 64)

    def authority(self, signer: str) -> tuple[str, str]:
        """(certificate file, key file) that sign for `kubernetes.io/SIGNER`; empty if it is not signed here."""
        own = self[f"cluster-signing-{signer}-cert-file"], self[f"cluster-signing-{signer}-key-file"]
        if any(own):
            return own
        return self["cluster-signing-cert-file"], self["cluster-signing-key-file"]


def parse(arguments: Sequence[str]) -> Options:
    """Options of a command line. Raises SettingsError that names the flag and says what to do."""
    values = FlagSet("kube-controller-manager", _FLAGS, _HARMLESS).parse(arguments)
    options = Options(values)
    _check_networks(options)
    if values["cidr-allocator-type"] != "RangeAllocator":
        raise SettingsError("--cidr-allocator-type: only RangeAllocator is supported")
    if values["enable-hostpath-provisioner"]:
        raise SettingsError("--enable-hostpath-provisioner: host paths are not provisioned; make volumes by hand")
    if values["cloud-provider"] not in ("", "external"):
        raise SettingsError("--cloud-provider: only external (the cloud controller manager runs beside this program)")
    if bool(values["cluster-signing-cert-file"]) != bool(values["cluster-signing-key-file"]):
        raise SettingsError("--cluster-signing-cert-file and --cluster-signing-key-file go together")
    if values["cluster-signing-cert-file"] and any(
        values[f"cluster-signing-{signer}-{part}-file"]
        for signer in ("kube-apiserver-client", "kubelet-client", "kubelet-serving", "legacy-unknown")
        for part in ("cert", "key")
    ):
        raise SettingsError("--cluster-signing-cert-file excludes the flags of single signers")
    return options


def _check_networks(options: Options) -> None:
    networks: list[Network] = options["cluster-cidr"]
    if options["allocate-node-cidrs"] and not networks:
        raise SettingsError("--allocate-node-cidrs needs --cluster-cidr")
    if len(networks) > 2 or len({n.version for n in networks}) != len(networks):
        raise SettingsError("--cluster-cidr: at most one network of each IP family")
    if options["node-cidr-mask-size"] and len(networks) == 2:
        raise SettingsError("--node-cidr-mask-size: use -ipv4 and -ipv6 when the cluster has both families")
    for network in networks:
        size = options.node_mask_size(network)
        if not network.prefixlen <= size <= network.max_prefixlen:
            raise SettingsError(
                f"--node-cidr-mask-size-ipv{network.version}: {size} does not fit into --cluster-cidr {network}"
            )
        if size - network.prefixlen > 16:
            raise SettingsError(
                f"--cluster-cidr {network}: more than 65,536 node networks of size /{size}; choose a smaller network"
            )
