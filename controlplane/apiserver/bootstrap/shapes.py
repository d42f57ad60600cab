"""The words in which the tables of this package are written, and the objects they stand for.

Source: k8s.io/kubernetes/pkg/apis/rbac/v1/helpers.go (rules are sorted),
plugin/pkg/auth/authorizer/rbac/bootstrappolicy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from machinery.api.meta import Object

READ = "get list watch"
FOLLOW = "list watch"
CHANGE = "patch update"
WRITE = "create delete deletecollection patch update"
READ_WRITE = f"{READ} {WRITE}"

RBAC_GROUP = "rbac.authorization.k8s.io"
LABELS = {"kubernetes.io/bootstrapping": "rbac-defaults"}
AUTOUPDATE = "rbac.authorization.kubernetes.io/autoupdate"


def rule(verbs: str, groups: str, resources: str, *, names: str = "") -> Object:
    """A PolicyRule from words with spaces between; `core` is the group without a name."""
    made: Object = {
        "verbs": sorted(verbs.split()),
        "apiGroups": sorted("" if group == "core" else group for group in groups.split()),
        "resources": sorted(resources.split()),
    }
    return made | {"resourceNames": sorted(names.split())} if names else made


def paths(verbs: str, urls: str) -> Object:
    """A PolicyRule about paths that are no resources."""
    return {"verbs": sorted(verbs.split()), "nonResourceURLs": sorted(urls.split())}


EVENTS = rule("create patch update", "core events.k8s.io", "events")


def metadata(name: str, namespace: str = "", labels: Mapping[str, str] | None = None) -> Object:
    """The metadata of a bootstrap role or binding."""
    made: Object = {"name": name}
    if namespace:
        made["namespace"] = namespace
    return made | {"labels": LABELS | dict(labels or {}), "annotations": {AUTOUPDATE: "true"}}


def cluster_role(name: str, rules: Sequence[Object], labels: Mapping[str, str] | None = None) -> Object:
    """A ClusterRole."""
    return {
        "apiVersion": f"{RBAC_GROUP}/v1",
        "kind": "ClusterRole",
        "metadata": metadata(name, labels=labels),
        "rules": list(rules),
    }


def binding(kind: str, name: str, role_kind: str, role: str, subjects: Sequence[Object], namespace: str = "") -> Object:
    """A ClusterRoleBinding or RoleBinding."""
    made: Object = {"apiVersion": f"{RBAC_GROUP}/v1", "kind": kind, "metadata": metadata(name, namespace)}
    if subjects:
        made["subjects"] = list(subjects)
    return made | {"roleRef": {"apiGroup": RBAC_GROUP, "kind": role_kind, "name": role}}


def user(name: str) -> Object:
    """A user as subject of a binding."""
    return {"kind": "User", "apiGroup": RBAC_GROUP, "name": name}


def group(name: str) -> Object:
    """A group as subject of a binding."""
    return {"kind": "Group", "apiGroup": RBAC_GROUP, "name": name}


def service_account(name: str) -> Object:
    """A service account of kube-system as subject of a binding."""
    return {"kind": "ServiceAccount", "name": name, "namespace": "kube-system"}
