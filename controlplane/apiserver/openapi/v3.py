"""OpenAPI v3: one document for each group and version.

Source: k8s.io/kube-openapi/pkg/builder3; k8s.io/apiserver/pkg/endpoints/installer.go (routes and their names).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from controlplane.apiserver.openapi.definitions import Definitions, Schema
from machinery.api.resource import ResourceType, Subresource
from machinery.version import KUBERNETES_VERSION

Document = dict[str, Any]

META = "io.k8s.apimachinery.pkg.apis.meta.v1."
OUT = ("application/json", "application/vnd.kubernetes.protobuf", "application/yaml")
SECURITY = {
    "BearerToken": {
        "type": "apiKey",
        "description": "Bearer Token authentication",
        "name": "authorization",
        "in": "header",
    }
}
_STREAMS = ("application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch")
_PATCHES_OF_CUSTOM = ("application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json")
_PATCHES = (*_PATCHES_OF_CUSTOM, "application/strategic-merge-patch+json")
_METHODS = {"create": "post", "get": "get", "update": "put", "patch": "patch", "delete": "delete"}


def _query(name: str, kind: str, description: str) -> Schema:
    return {
        "name": name,
        "in": "query",
        "description": description,
        "schema": {"type": kind, "uniqueItems": True},
    }


_PRETTY = _query("pretty", "string", "If 'true', then the output is pretty printed.")
_DRY_RUN = _query("dryRun", "string", "When present, indicates that modifications should not be persisted.")
_MANAGER = _query("fieldManager", "string", "The name of the actor or entity that is making these changes.")
_VALIDATION = _query("fieldValidation", "string", "How to handle unknown or duplicate fields: Ignore, Warn or Strict.")
_FORCE = _query("force", "boolean", "Whether an apply takes over fields that others own.")
_WRITE = (_DRY_RUN, _MANAGER, _VALIDATION)
_LIST = (
    _query("allowWatchBookmarks", "boolean", "Whether to send BOOKMARK events."),
    _query("continue", "string", "Where to go on, from the previous chunk's answer."),
    _query("fieldSelector", "string", "Restricts the objects by their fields."),
    _query("labelSelector", "string", "Restricts the objects by their labels."),
    _query("limit", "integer", "The most objects to return in one answer."),
    _PRETTY,
    _query("resourceVersion", "string", "Sets a constraint on which revisions may be served."),
    _query("resourceVersionMatch", "string", "How resourceVersion is applied: Exact or NotOlderThan."),
    _query("sendInitialEvents", "boolean", "Whether a watch begins with the objects there are."),
    _query("timeoutSeconds", "integer", "How long a list or a watch may take."),
    _query("watch", "boolean", "Watch for changes and return them as a stream."),
)
_DELETE = (
    _DRY_RUN,
    _query("gracePeriodSeconds", "integer", "How long before the object is deleted."),
    _query("ignoreStoreReadErrorWithClusterBreakingPotential", "boolean", "Delete even what cannot be read."),
    _query("orphanDependents", "boolean", "Deprecated: use propagationPolicy."),
    _query("propagationPolicy", "string", "What happens to dependents: Orphan, Background or Foreground."),
)
_CONNECT = {
    "exec": ("command", "container", "stderr", "stdin", "stdout", "tty"),
    "attach": ("container", "stderr", "stdin", "stdout", "tty"),
    "portforward": ("ports",),
    "proxy": ("path",),
}
_LOG = (
    *("container", "follow", "insecureSkipTLSVerifyBackend", "limitBytes", "previous"),
    *("sinceSeconds", "stream", "tailLines", "timestamps"),
)


def _path_parameter(name: str, description: str) -> Schema:
    return {
        "name": name,
        "in": "path",
        "description": description,
        "required": True,
        "schema": {"type": "string", "uniqueItems": True},
    }


_NAMESPACE = _path_parameter("namespace", "object name and auth scope, such as for teams and projects")


def document(resources: Sequence[ResourceType], definitions: Definitions) -> Document:
    """The document of one group and version, which all `resources` are of (at least one)."""
    root = resources[0].path().rpartition("/")[0]
    paths: dict[str, Any] = {f"{root}/": {"get": _resource_list(resources[0])}}
    for resource in resources:
        paths |= _paths(resource, definitions)
    names = set(_names_in(paths)) | {f"{META}APIResourceList"}
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": KUBERNETES_VERSION},
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": definitions.closure(names),
            "securitySchemes": SECURITY,
        },
    }


def _resource_list(resource: ResourceType) -> Document:
    return {
        "tags": [_tag(resource)],
        "description": "get available resources",
        "operationId": f"get{_prefix(resource)}APIResources",
        "responses": _responses(f"{META}APIResourceList", "200"),
    }


def _paths(resource: ResourceType, definitions: Definitions) -> dict[str, Any]:
    kind = definition_name(definitions, resource.group, resource.version, resource.kind)
    many = definition_name(definitions, resource.group, resource.version, resource.list_kind)
    scope = "Namespaced" if resource.namespaced else ""
    base = resource.path("{namespace}")
    common = [_NAMESPACE] if resource.namespaced else []
    one = [_path_parameter("name", f"name of the {resource.kind}"), *common, _PRETTY]
    maker = _Operations(resource, scope, _PATCHES if definitions.is_built_in(kind) else _PATCHES_OF_CUSTOM)
    paths: dict[str, Any] = {}
    collection: dict[str, Any] = {}
    if "list" in resource.verbs:
        collection["get"] = maker.lists(many)
    if "create" in resource.verbs:
        collection["post"] = maker.writes("create", kind)
    if "deletecollection" in resource.verbs:
        collection["delete"] = maker.deletes_all()
    if collection:
        paths[base] = {**collection, "parameters": [*common, _PRETTY]}
    item = {
        _METHODS[verb]: maker.of(verb, kind) for verb in ("get", "update", "patch", "delete") if verb in resource.verbs
    }
    if item:
        paths[f"{base}/{{name}}"] = {**item, "parameters": one}
    for sub in resource.subresources:
        paths |= _subresource_paths(maker, sub, f"{base}/{{name}}/{sub.name}", one, definitions)
    if "list" in resource.verbs and resource.namespaced:
        all_namespaces = maker.lists(many, everywhere=True)
        del all_namespaces["parameters"]
        paths[resource.path()] = {"get": all_namespaces, "parameters": list(_LIST)}
    if "watch" in resource.verbs:
        paths |= _watch_paths(maker, base, one)
    return paths


def _subresource_paths(
    maker: _Operations, sub: Subresource, path: str, parameters: list[Schema], definitions: Definitions
) -> dict[str, Any]:
    resource = maker.resource
    if sub.name in _CONNECT:
        options = [_query(name, "string", name) for name in _CONNECT[sub.name]]
        verbs = ("get", "post") if sub.name != "proxy" else ("delete", "get", "head", "options", "patch", "post", "put")
        found = {path: {**{v: maker.connects(v, sub) for v in verbs}, "parameters": [*parameters[:-1], *options]}}
        if sub.name == "proxy":
            below = {v: maker.connects(v, sub, with_path=True) for v in verbs}
            deeper = [*parameters[:-1], _path_parameter("path", "path to the resource"), *options]
            found[path + "/{path}"] = {**below, "parameters": deeper}
        return found
    group, version = (sub.group, sub.version) if sub.version else (resource.group, resource.version)
    kind = definition_name(definitions, group, version, sub.kind or resource.kind)
    gvk = {"group": group, "version": version, "kind": sub.kind or resource.kind}
    operations = {_METHODS[verb]: maker.of(verb, kind, sub.name, gvk) for verb in sub.verbs}
    if sub.name == "log":
        operations["get"] |= {"responses": _text_responses()}
        parameters = [*parameters, *(_query(name, "string", name) for name in _LOG)]
    if "post" in operations:
        parameters = [*_WRITE, *parameters]
        operations["post"].pop("parameters", None)
    return {path: {**operations, "parameters": parameters}}


def _watch_paths(maker: _Operations, base: str, one: list[Schema]) -> dict[str, Any]:
    resource = maker.resource
    root, _, rest = base.partition(f"/{resource.version}/")
    watched = f"{root}/{resource.version}/watch/{rest}"
    common = [_NAMESPACE] if resource.namespaced else []
    paths = {
        watched: {"get": maker.watches(listed=True), "parameters": [*common, *_LIST]},
        f"{watched}/{{name}}": {"get": maker.watches(listed=False), "parameters": [*one[:-1], *_LIST]},
    }
    if resource.namespaced:
        everywhere = f"{root}/{resource.version}/watch/{resource.plural}"
        paths[everywhere] = {"get": maker.watches(listed=True, everywhere=True), "parameters": list(_LIST)}
    return paths


class _Operations:
    """Makes the operations of one resource."""

    def __init__(self, resource: ResourceType, scope: str, patches: Sequence[str]) -> None:
        """`patches`: the media types that objects may be patched by; kubectl chooses by them."""
        self.resource = resource
        self._scope = scope
        self._patches = patches

    def of(self, verb: str, kind: str, subresource: str = "", gvk: dict[str, str] | None = None) -> Document:
        """An operation on one object or its subresource."""
        name = {"get": "read", "update": "replace"}.get(verb, verb)
        made = self._operation(name, _METHODS[verb], subresource, gvk)
        made["responses"] = _responses(
            kind, "200", *{"create": ("201", "202"), "update": ("201",), "patch": ("201",)}.get(verb, ())
        )
        if verb in ("create", "update"):
            made |= {"parameters": list(_WRITE), "requestBody": _body(kind)}
        elif verb == "patch":
            content = {media: {"schema": reference(f"{META}Patch")} for media in self._patches}
            made |= {"parameters": [*_WRITE, _FORCE], "requestBody": {"content": content, "required": True}}
        elif verb == "delete":
            answer = kind if self.resource.plural in _RETURNED_WHEN_DELETED else f"{META}Status"
            made |= {"parameters": list(_DELETE), "requestBody": _body(f"{META}DeleteOptions", required=False)}
            made["responses"] = _responses(answer, "200", "202")
        return made

    def writes(self, verb: str, kind: str) -> Document:
        """A create."""
        return self.of(verb, kind)

    def lists(self, kind: str, *, everywhere: bool = False) -> Document:
        """A list, of a namespace or of all."""
        name = f"list{_prefix(self.resource)}" + (
            f"{self.resource.kind}ForAllNamespaces" if everywhere else f"{self._scope}{self.resource.kind}"
        )
        made = self._document("list", name)
        made |= {"parameters": list(_LIST), "responses": _responses(kind, "200", media=(*OUT, *_STREAMS))}
        return made

    def deletes_all(self) -> Document:
        """A deletecollection."""
        name = f"delete{_prefix(self.resource)}Collection{self._scope}{self.resource.kind}"
        made = self._document("deletecollection", name)
        parameters = sorted(
            (*_DELETE, *(p for p in _LIST if p["name"] not in ("watch", "allowWatchBookmarks", "pretty"))), key=_by_name
        )
        made |= {
            "parameters": parameters,
            "requestBody": _body(f"{META}DeleteOptions", required=False),
            "responses": _responses(f"{META}Status", "200"),
        }
        return made

    def watches(self, *, listed: bool, everywhere: bool = False) -> Document:
        """The deprecated watch paths."""
        kind = self.resource.kind
        end = f"{kind}ListForAllNamespaces" if everywhere else f"{self._scope}{kind}" + ("List" if listed else "")
        made = self._document("watchlist" if listed else "watch", f"watch{_prefix(self.resource)}{end}")
        made["responses"] = _responses(f"{META}WatchEvent", "200", media=(*OUT, *_STREAMS))
        return made

    def connects(self, method: str, sub: Subresource, *, with_path: bool = False) -> Document:
        """exec, attach, portforward, proxy."""
        end = f"{self._scope}{self.resource.kind}{_title(sub.name)}{'WithPath' if with_path else ''}"
        made = self._document("connect", f"connect{_prefix(self.resource)}{method.capitalize()}{end}")
        made["x-kubernetes-group-version-kind"]["kind"] = sub.kind
        made["responses"] = _text_responses("*/*")
        return made

    def _operation(self, verb: str, action: str, subresource: str, gvk: dict[str, str] | None) -> Document:
        name = f"{verb}{_prefix(self.resource)}{self._scope}{self.resource.kind}{_title(subresource)}"
        made = self._document(action, name)
        if gvk is not None:
            made["x-kubernetes-group-version-kind"] = gvk
        return made

    def _document(self, action: str, operation: str) -> Document:
        resource = self.resource
        return {
            "tags": [_tag(resource)],
            "description": f"{action} {resource.kind}",
            "operationId": operation,
            "responses": {},
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {
                "group": resource.group,
                "version": resource.version,
                "kind": resource.kind,
            },
        }


_RETURNED_WHEN_DELETED = frozenset(
    {
        *("persistentvolumeclaims", "persistentvolumes", "pods", "podtemplates", "resourcequotas", "serviceaccounts"),
        *("services", "csidrivers", "csinodes", "storageclasses", "volumeattachments", "resourceclaims"),
        *("resourceclaimtemplates", "resourceslices", "deviceclasses", "volumeattributesclasses"),
    }
)


def definition_name(definitions: Definitions, group: str, version: str, kind: str) -> str:
    """The long name of a kind's definition; a generic object for what has none."""
    return definitions.name_of(group, version, kind) or f"{META}Status"


def _prefix(resource: ResourceType) -> str:
    """`AppsV1`, `CoreV1`, `RbacAuthorizationV1`: how operation names begin after their verb."""
    return group_title(resource.group) + _title(resource.version)


def group_title(group: str) -> str:
    """`Apps`, `Core`, `RbacAuthorization`."""
    return "".join(_title(part) for part in (group.removesuffix(".k8s.io") or "core").split("."))


def _tag(resource: ResourceType) -> str:
    name = _prefix(resource).removesuffix(_title(resource.version))
    return f"{name[0].lower()}{name[1:]}_{resource.version}"


_TITLES = {"portforward": "Portforward", "ephemeralcontainers": "Ephemeralcontainers"}


def _title(text: str) -> str:
    return _TITLES.get(text) or text[:1].upper() + text[1:]


def _by_name(parameter: Schema) -> str:
    return str(parameter["name"])


def reference(name: str) -> Schema:
    """To a schema of the same document."""
    return {"$ref": f"#/components/schemas/{name}"}


def _body(kind: str, *, required: bool = True) -> Document:
    body: Document = {"content": {"*/*": {"schema": reference(kind)}}}
    return body | {"required": True} if required else body


UNAUTHORIZED = {"401": {"description": "Unauthorized"}}
_SAID = {"200": "OK", "201": "Created", "202": "Accepted"}


def _responses(kind: str, *codes: str, media: Iterable[str] = OUT) -> Document:
    content = {each: {"schema": reference(kind)} for each in media}
    return {code: {"description": _SAID[code], "content": content} for code in codes} | UNAUTHORIZED


def _text_responses(*media: str) -> Document:
    content = {each: {"schema": {"type": "string"}} for each in media or ("text/plain", *OUT)}
    return {"200": {"description": "OK", "content": content}, **UNAUTHORIZED}


def _names_in(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        reference = value.get("$ref")
        if isinstance(reference, str):
            yield reference.rpartition("/")[2]
        for each in value.values():
            yield from _names_in(each)
    elif isinstance(value, list):
        for each in value:
            yield from _names_in(each)
