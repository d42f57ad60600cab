"""The version of Kubernetes that all components behave as."""

from __future__ import annotations

KUBERNETES_VERSION = "v1.36.2"
