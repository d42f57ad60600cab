"""The /etc/hosts of a pod, and its host name.

Source: kubelet's managed hosts file; pod API, hostname, subdomain, hostAliases, setHostnameAsFQDN, hostnameOverride.
"""

from __future__ import annotations

from collections.abc import Sequence

from agent.kubelet.container.errors import StartError
from machinery.api import meta
from machinery.api.meta import Object

_MAX_NAME = 63
_MAX_FQDN = 64
_HEAD = """# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"""


def host_name(pod: Object, cluster_domain: str) -> tuple[str, str]:
    """(host name, domain) of a pod; the domain is empty without a subdomain."""
    of_pod = pod["spec"]
    if of_pod.get("hostnameOverride"):
        return str(of_pod["hostnameOverride"]), ""
    name = of_pod.get("hostname") or meta.name_of(pod)
    if not of_pod.get("hostname") and len(name) > _MAX_NAME:
        name = name[:_MAX_NAME].rstrip("-.")
    domain = ""
    if of_pod.get("subdomain"):
        domain = f"{of_pod['subdomain']}.{meta.namespace_of(pod)}.svc.{cluster_domain}"
    return name, domain


def kernel_name(pod: Object, cluster_domain: str) -> str:
    """What `hostname` says inside the pod. Raises StartError when the full name is asked for and too long."""
    name, domain = host_name(pod, cluster_domain)
    if not pod["spec"].get("setHostnameAsFQDN") or not domain:
        return name
    full = f"{name}.{domain}"
    if len(full) > _MAX_FQDN:
        raise StartError(
            f"failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long "
            f"({_MAX_FQDN} is the max characters, {len(full)} characters requested)"
        )
    return full


def content(pod: Object, pod_ips: Sequence[str], cluster_domain: str, of_host: str | None) -> str:
    """The file's text; `of_host` is the node's own file, for a pod on the node's network."""
    if of_host is not None:
        text = "# Kubernetes-managed hosts file (host network).\n" + of_host
    else:
        name, domain = host_name(pod, cluster_domain)
        names = f"{name}.{domain}\t{name}" if domain else name
        text = _HEAD + "".join(f"{ip}\t{names}\n" for ip in pod_ips)
    aliases = pod["spec"].get("hostAliases") or ()
    if aliases:
        text += "\n# Entries added by HostAliases.\n"
        text += "".join(f"{alias['ip']}\t" + "\t".join(alias.get("hostnames") or ()) + "\n" for alias in aliases)
    return text
