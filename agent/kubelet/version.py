"""The version of Kubernetes that this kubelet behaves as."""

from __future__ import annotations

KUBERNETES_VERSION = "v1.36.2"
