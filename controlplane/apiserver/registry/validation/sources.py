"""Volume sources that pods and PersistentVolumes share.

Source: pkg/apis/core/validation/validation.go (validateHostPathVolumeSource and its like).
"""

from __future__ import annotations

import re
from collections.abc import Callable

from controlplane.apiserver.registry.objects import integer, number, strings, text, values
from controlplane.apiserver.registry.validation.parts import check_names, dictionary, unsupported
from machinery.api import names
from machinery.api.fielderror import FieldError, invalid, required
from machinery.api.meta import Object

Rule = Callable[[str, Object], list[FieldError]]

HOST_PATH_TYPES = ("", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket")


def needs(*keys: str) -> Rule:
    """A source whose only rule is that these strings are there."""

    def rule(at: str, source: Object) -> list[FieldError]:
        return [required(f"{at}.{key}") for key in keys if not text(source, key)]

    return rule


def upward(at: str, path: str) -> list[FieldError]:
    """A path without `..`."""
    return [invalid(at, path, "must not contain '..'")] if ".." in path.split("/") else []


def host_path(at: str, source: Object) -> list[FieldError]:
    """A file or directory of the host."""
    path = text(source, "path")
    if not path:
        return [required(f"{at}.path")]
    errors = upward(f"{at}.path", path)
    kind = source.get("type")
    if isinstance(kind, str) and kind not in HOST_PATH_TYPES:
        errors.append(unsupported(f"{at}.type", kind, HOST_PATH_TYPES))
    return errors


def _disk(at: str, source: Object, key: str) -> list[FieldError]:
    errors = [] if text(source, key) else [required(f"{at}.{key}")]
    partition = number(source, "partition")
    if not 0 <= partition <= 255:
        errors.append(invalid(f"{at}.partition", partition, names.range_error(1, 255)))
    return errors


def _gce_disk(at: str, source: Object) -> list[FieldError]:
    """A disk of Google's cloud; what is wrong with it is told of a field by another name."""
    return _disk(at.removesuffix("gcePersistentDisk") + "persistentDisk", source, "pdName")


def _nfs(at: str, source: Object) -> list[FieldError]:
    errors = needs("server", "path")(at, source)
    path = text(source, "path")
    if not path.startswith("/"):
        errors.append(invalid(f"{at}.path", path, "must be an absolute path"))
    return errors


_IQN = re.compile(r"iqn\.[0-9]{4}-[0-9]{2}\.([a-zA-Z0-9\-.]+)(:[^,;*&$|\t\n\f\r ]+)\Z")
_EUI, _NAA = re.compile(r"eui.[0-9A-Za-z]{16}\Z"), re.compile(r"naa.[0-9A-Za-z]{32}\Z")
_FORMAT = {"iqn": _IQN, "eui": _EUI, "naa": _NAA}


def _qualified_iscsi(at: str, name: str, hint: str) -> list[FieldError]:
    wanted = _FORMAT.get(name[:3])
    if wanted is None:
        return [invalid(at, name, f"must be valid format{hint}")]
    return [] if wanted.search(name) else [invalid(at, name, "must be valid format")]


def long_iscsi(volume: str, source: Object) -> bool:
    """Whether the name of a volume and its portal are too long for a session of an initiator's own."""
    return isinstance(source.get("initiatorName"), str) and len(f"{volume}:{text(source, 'targetPortal')}") > 64


ISCSI_TOO_LONG = (
    "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is "
    "specified."
)


def iscsi(at: str, source: Object, hint: str = " starting with iqn, eui, or naa") -> list[FieldError]:
    """An iSCSI disk; `hint` is what is said of the forms that names have."""
    errors = [] if text(source, "targetPortal") else [required(f"{at}.targetPortal")]
    name = text(source, "iqn")
    errors += _qualified_iscsi(f"{at}.iqn", name, hint) if name else [required(f"{at}.iqn")]
    lun = number(source, "lun")
    if not 0 <= lun <= 255:
        errors.append(invalid(f"{at}.lun", lun, names.range_error(0, 255)))
    secret = dictionary(source, "secretRef")
    if secret is None and (source.get("chapAuthDiscovery") is True or source.get("chapAuthSession") is True):
        errors.append(required(f"{at}.secretRef"))
    initiator = source.get("initiatorName")
    if isinstance(initiator, str):
        errors += _qualified_iscsi(f"{at}.initiatorname", initiator, hint)
    return errors


def _flocker(at: str, source: Object) -> list[FieldError]:
    name, uid = text(source, "datasetName"), text(source, "datasetUUID")
    errors: list[FieldError] = []
    if not name and not uid:
        errors.append(required(at, "one of datasetName and datasetUUID is required"))
    if name and uid:
        errors.append(invalid(at, "resource", "datasetName and datasetUUID can not be specified simultaneously"))
    if "/" in name:
        errors.append(invalid(f"{at}.datasetName", name, "must not contain '/'"))
    return errors


def _monitors(at: str, source: Object) -> list[FieldError]:
    return [] if values(source, "monitors") else [required(f"{at}.monitors")]


def _rbd(at: str, source: Object) -> list[FieldError]:
    return _monitors(at, source) + needs("image")(at, source)


def cinder(at: str, source: Object) -> list[FieldError]:
    """A volume of OpenStack."""
    errors = needs("volumeID")(at, source)
    secret = dictionary(source, "secretRef")
    if secret is not None and not text(secret, "name"):
        errors.append(required(f"{at}.secretRef.name"))
    return errors


_HOST_PORT = re.compile(r"([^:\[\]]*|\[[^\[\]]*\]):[^:\[\]]*")


def _quobyte(at: str, source: Object) -> list[FieldError]:
    registry, volume = text(source, "registry"), text(source, "volume")
    errors: list[FieldError] = []
    if not registry:
        errors.append(required(f"{at}.registry", "must be a host:port pair or multiple pairs separated by commas"))
    elif len(text(source, "tenant")) >= 65:
        errors.append(required(f"{at}.tenant", "must be a UUID and may not exceed a length of 64 characters"))
    else:
        for pair in registry.split(","):
            if not _HOST_PORT.fullmatch(pair):
                detail = "must be a host:port pair or multiple pairs separated by commas"
                errors.append(invalid(f"{at}.registry", registry, detail))
    if not volume:
        errors.append(required(f"{at}.volume"))
    return errors


def _fc(at: str, source: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    targets, wwids = values(source, "targetWWNs"), values(source, "wwids")
    if not targets and not wwids:
        errors.append(required(f"{at}.targetWWNs", "must specify either targetWWNs or wwids, but not both"))
    if targets and wwids:
        errors.append(invalid(f"{at}.targetWWNs", targets, "targetWWNs and wwids can not be specified simultaneously"))
    if targets:
        lun = integer(source, "lun")
        if lun is None:
            errors.append(required(f"{at}.lun", "lun is required if targetWWNs is specified"))
        elif not 0 <= lun <= 255:
            errors.append(invalid(f"{at}.lun", lun, names.range_error(0, 255)))
    return errors


def _flex(at: str, source: Object) -> list[FieldError]:
    driver = text(source, "driver")
    errors = [] if driver else [required(f"{at}.driver")]
    for key in strings(source, "options"):
        if f".{key.partition('/')[0].lower()}".endswith((".kubernetes.io", ".k8s.io")):
            detail = "kubernetes.io and k8s.io namespaces are reserved"
            errors.append(invalid(f"{at}.options[{key}]", key, detail))
    return errors


def _azure_disk(at: str, source: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    mode, kind = source.get("cachingMode"), source.get("kind")
    name, uri = text(source, "diskName"), text(source, "diskURI")
    if not name:
        errors.append(required(f"{at}.diskName"))
    if not uri:
        errors.append(required(f"{at}.diskURI"))
    if isinstance(mode, str) and mode not in ("None", "ReadOnly", "ReadWrite"):
        errors.append(unsupported(f"{at}.cachingMode", mode, ("None", "ReadOnly", "ReadWrite")))
    if isinstance(kind, str) and kind not in ("Shared", "Dedicated", "Managed"):
        errors.append(unsupported(f"{at}.kind", kind, ("Dedicated", "Managed", "Shared")))
    if kind == "Managed" and not uri.startswith("/subscriptions/"):
        errors.append(
            unsupported(
                f"{at}.diskURI",
                uri,
                ("/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",),
            )
        )
    if isinstance(kind, str) and kind != "Managed" and not uri.startswith("https://"):
        detail = ("https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd",)
        errors.append(unsupported(f"{at}.diskURI", uri, detail))
    return errors


def _scale_io(at: str, source: Object) -> list[FieldError]:
    return needs("gateway", "system", "volumeName")(at, source)


def storage_os(at: str, source: Object) -> list[FieldError]:
    """A volume of StorageOS."""
    errors: list[FieldError] = []
    name = text(source, "volumeName")
    errors += check_names(f"{at}.volumeName", name, names.dns1123_label) if name else [required(f"{at}.volumeName")]
    if space := text(source, "volumeNamespace"):
        errors += check_names(f"{at}.volumeNamespace", space, names.dns1123_label)
    secret = dictionary(source, "secretRef")
    if secret is not None and not text(secret, "name"):
        errors.append(required(f"{at}.secretRef.name"))
    return errors


SHARED_SOURCES: dict[str, Rule] = {
    "hostPath": host_path,
    "gcePersistentDisk": _gce_disk,
    "awsElasticBlockStore": lambda at, source: _disk(at, source, "volumeID"),
    "nfs": _nfs,
    "iscsi": iscsi,
    "glusterfs": needs("endpoints", "path"),
    "flocker": _flocker,
    "rbd": _rbd,
    "cinder": cinder,
    "cephfs": _monitors,
    "quobyte": _quobyte,
    "fc": _fc,
    "flexVolume": _flex,
    "azureFile": needs("secretName", "shareName"),
    "vsphereVolume": needs("volumePath"),
    "photonPersistentDisk": needs("pdID"),
    "portworxVolume": needs("volumeID"),
    "azureDisk": _azure_disk,
    "scaleIO": _scale_io,
    "storageos": storage_os,
}


def csi_driver_name(at: str, driver: str) -> list[FieldError]:
    """The name of a CSI driver."""
    errors: list[FieldError] = []
    if not driver:
        errors.append(required(at))
    if len(driver) > 63:
        errors.append(FieldError("FieldValueTooLong", at, "Too long: may not be more than 63 bytes"))
    return errors + [invalid(at, driver, message) for message in names.dns1123_subdomain(driver.lower())]
