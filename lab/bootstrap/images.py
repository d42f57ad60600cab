"""The names of the images that a cluster of a configuration needs.

Source: kubeadm, images.GetControlPlaneImages; util.KubernetesVersionToImageTag.
"""

from __future__ import annotations

from lab.bootstrap.configuration import ClusterConfiguration

CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
COMPONENTS = (*CONTROL_PLANE, "kube-proxy", "coredns", "navarch-network")
"""The names under which the project's own image goes."""
PAUSE = "pause:3.10"


def tag(version: str) -> str:
    """The tag of a Kubernetes version: a tag can't have a `+`."""
    return version.replace("+", "_")


def component(config: ClusterConfiguration, name: str) -> str:
    """The image of a component of ours, or of upstream's by the same name."""
    return f"{config.image_repository}/{name}:{tag(config.kubernetes_version)}"


def dns(config: ClusterConfiguration) -> str:
    """The image of the cluster's DNS."""
    repository = config.dns_image_repository or config.image_repository
    return f"{repository}/coredns:{config.dns_image_tag or tag(config.kubernetes_version)}"


def etcd(config: ClusterConfiguration) -> str:
    """The image of etcd."""
    return f"{config.etcd.image_repository or config.image_repository}/etcd:{config.etcd.image_tag}"


def pause(config: ClusterConfiguration) -> str:
    """The sandbox's image, for the runtime's configuration."""
    return f"{config.image_repository}/{PAUSE}"


def needed(config: ClusterConfiguration) -> list[str]:
    """All of them."""
    own = [component(config, name) for name in COMPONENTS if name != "coredns"]
    return [*own, dns(config), *([] if config.etcd.external else [etcd(config)]), pause(config)]
