"""Who the server is when it uses the API itself."""

from __future__ import annotations

from controlplane.apiserver.request import User

USER = User("system:apiserver", groups=("system:masters", "system:authenticated"))
MANAGER = "kube-apiserver"
