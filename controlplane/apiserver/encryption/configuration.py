"""--encryption-provider-config: an EncryptionConfiguration, checked as upstream checks it.

Source: k8s.io/apiserver/pkg/apis/apiserver/validation/validation_encryption.go, pkg/server/options/encryptionconfig.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controlplane.apiserver.encryption.providers import AESCBC, AESGCM, Cipher, Identity, Keyed, Secretbox, Transformer
from machinery.api import fielderror
from machinery.api.fielderror import FieldError
from machinery.api.meta import Object
from machinery.errors import SettingsError
from machinery.settings import load_config

FLAG = "--encryption-provider-config"
_KIND, _VERSIONS = "EncryptionConfiguration", ("apiserver.config.k8s.io/v1",)

_AES_SIZES = (16, 24, 32)
_CIPHERS: Mapping[str, tuple[type[AESCBC | AESGCM | Secretbox], Sequence[int]]] = {
    "aescbc": (AESCBC, _AES_SIZES),
    "aesgcm": (AESGCM, _AES_SIZES),
    "secretbox": (Secretbox, (32,)),
}
_KNOWN = (*_CIPHERS, "identity", "kms")
_WITHOUT_API = ("apiserveripinfo", "serviceipallocations", "servicenodeportallocations")

GroupResource = tuple[str, str]
"""(group, resource); each may be `*`."""


@dataclass(frozen=True, slots=True)
class Encryption:
    """How the values of each resource are stored."""

    rules: Mapping[GroupResource, Transformer]

    def of(self, group: str, resource: str) -> Transformer | None:
        """The transformer of a resource; None where values are stored as they are."""
        rules = self.rules
        return rules.get((group, resource)) or rules.get((group, "*")) or rules.get(("*", "*"))


def load(path: str) -> Encryption:
    """Read a file. Raises SettingsError saying everything that is wrong with it."""
    obj = load_config(Path(path), _KIND, _VERSIONS)
    errors = list(check(obj))
    if errors:
        raise SettingsError(f"{FLAG} {path}: " + "; ".join(str(error) for error in errors))
    return build(obj, path)


def parse_resource(text: str) -> GroupResource:
    """`secrets`, `deployments.apps`, `*.apps`, `*.` (all of the core group), `*.*`."""
    resource, _, group = text.partition(".")
    return group, resource


def check(obj: Object) -> Iterator[FieldError]:
    """What is wrong with a configuration."""
    given = obj.get("resources") or []
    if not given:
        yield fielderror.required("resources", "at least one resources is required")
    for i, entry in enumerate(given):
        at = f"resources[{i}]"
        resources, providers = entry.get("resources") or [], entry.get("providers") or []
        if not resources:
            yield fielderror.required(f"{at}.resources", f"at least one {at}.resources is required")
        yield from _check_overlap(f"{at}.resources", resources)
        for j, text in enumerate(resources):
            if told := _name_error(text):
                yield fielderror.invalid(f"{at}.resources[{j}]", text, told)
        if not providers:
            yield fielderror.required(f"{at}.providers", f"at least one {at}.providers is required")
        for j, provider in enumerate(providers):
            yield from _check_provider(f"{at}.providers[{j}]", provider)


def _check_overlap(path: str, resources: Sequence[str]) -> Iterator[FieldError]:
    parsed = [parse_resource(text) for text in resources]
    if len(set(parsed)) != len(parsed):
        yield fielderror.invalid(path, list(resources), "the same resource cannot be specified multiple times")
    groups = {group for group, resource in parsed if resource == "*"}
    if (("*", "*") in parsed and len(set(parsed)) > 1) or any(g in groups and r != "*" for g, r in parsed):
        told = "using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as they"
        yield fielderror.invalid(path, list(resources), f"{told} will be masked")


def _name_error(text: str) -> str:
    group, resource = parse_resource(text)
    if text.lower() != text:
        return "resource name should not contain capital letters"
    if text == "*":
        return "use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources"
    if text in _WITHOUT_API:
        return "resources which do not have REST API/s cannot be encrypted"
    if group == "events.k8s.io":
        told = "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead"
        return f"{told} in the config file"
    if group == "extensions":
        return "'extensions' group has been removed and cannot be used for encryption"
    if group == "*" and resource != "*":
        return "encrypting the same resource across groups is not supported"
    return ""


def _check_provider(path: str, provider: Object) -> Iterator[FieldError]:
    named = [name for name in provider if provider[name] is not None and name in _KNOWN]
    if len(named) != 1 or len(provider) != 1:
        told = "more than one provider specified in a single element, should split into different list elements"
        if not named:
            told = "provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, Secretbox, Identity"
        yield fielderror.invalid(path, sorted(provider), told)
    elif named[0] == "kms":
        yield fielderror.forbidden(f"{path}.kms", "not supported by this server; use aescbc, aesgcm or secretbox")
    elif named[0] in _CIPHERS:
        yield from _check_keys(f"{path}.{named[0]}.keys", provider[named[0]].get("keys") or [], _CIPHERS[named[0]][1])


def _check_keys(path: str, keys: Sequence[Object], sizes: Sequence[int]) -> Iterator[FieldError]:
    if not keys:
        yield fielderror.required(path, "at least one keys is required")
    for i, key in enumerate(keys):
        if not key.get("name"):
            yield fielderror.required(f"{path}[{i}].name", "name is a mandatory field for a key")
        if not key.get("secret"):
            yield fielderror.required(f"{path}[{i}].secret", "secret is a mandatory field for a key")
            continue
        secret = _decoded(key["secret"])
        if secret is None:
            yield fielderror.invalid(f"{path}[{i}].secret", "REDACTED", "secrets must be base64 encoded")
        elif len(secret) not in sizes:
            wanted = "[" + " ".join(str(size) for size in sizes) + "]"
            told = f"secret is not of the expected length, got {len(secret)}, expected one of {wanted}"
            yield fielderror.invalid(f"{path}[{i}].secret", "REDACTED", told)


def _decoded(text: Any) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError):
        return None


def build(obj: Object, path: str = "") -> Encryption:
    """The transformers of a configuration that was checked. Raises SettingsError for rules that never apply."""
    ciphers: dict[GroupResource, list[Keyed]] = {}
    for entry in obj["resources"]:
        made = [keyed for provider in entry["providers"] for keyed in _keyed(provider)]
        for text in entry["resources"]:
            group, resource = name = parse_resource(text)
            for wide in ((group, "*"), ("*", "*")):
                if wide != name and wide in ciphers:
                    masked = f'resource "{text}" is masked by earlier rule "{wide[1]}.{wide[0]}"'
                    raise SettingsError(f"{FLAG} {path}: {masked}")
            ciphers.setdefault((group, resource), []).extend(made)
    return Encryption({name: Transformer(tuple(found)) for name, found in ciphers.items()})


def _keyed(provider: Object) -> Iterator[Keyed]:
    name, given = next(iter(provider.items()))
    if name == "identity":
        yield Keyed(b"", Identity())
        return
    for key in given["keys"]:
        secret = _decoded(key["secret"])
        assert secret is not None, "checked before"
        cipher: Cipher = _CIPHERS[name][0](secret)
        yield Keyed(f"k8s:enc:{name}:v1:{key['name']}:".encode(), cipher)
