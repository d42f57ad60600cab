"""Values as upstream's messages show them: in the form of its internal types, which have no JSON names.

Only what messages can contain is here. A form is a list of `GoName=jsonName:zero`; the JSON name is left out where it
is the Go name with a small first letter, and the zero where it is null.

Source: pkg/apis/core/types.go and its neighbours.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from controlplane.apiserver.registry.objects import sub
from machinery.api.meta import Object

Form = Callable[[Any], Any]
_ZEROS: Final = {"s": "", "b": False, "i": 0, "n": None}


def _small(name: str) -> str:
    return name[:1].lower() + name[1:]


def _form(text: str, nested: dict[str, Form] | None = None) -> Form:
    fields = []
    for word in text.split():
        named, _, zero = word.partition(":")
        name, _, key = named.partition("=")
        fields.append((name, key or _small(name), _ZEROS[zero or "n"]))
    return partial(_show, fields, nested or {})


def _show(fields: list[tuple[str, str, Any]], nested: dict[str, Form], value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    shown: Object = {}
    for name, key, zero in fields:
        found = value.get(key, zero)
        form = nested.get(name)
        if form is None or found is None:
            shown[name] = zero if found in ({}, []) else found
        elif isinstance(found, list):
            shown[name] = [form(e) for e in found] or None
        else:
            shown[name] = form(found)
    return shown


_RESOURCES = _form("Limits Requests Claims")
_CONTAINER_TEXT = (
    "Name:s Image:s Command Args WorkingDir:s Ports EnvFrom Env Resources ResizePolicy RestartPolicy "
    "RestartPolicyRules VolumeMounts VolumeDevices LivenessProbe ReadinessProbe StartupProbe Lifecycle "
    "TerminationMessagePath:s TerminationMessagePolicy:s ImagePullPolicy:s SecurityContext Stdin:b StdinOnce:b "
    "TTY=tty:b"
)
_SECURITY = _form(
    "Capabilities Privileged SELinuxOptions=seLinuxOptions WindowsOptions RunAsUser RunAsGroup RunAsNonRoot "
    "ReadOnlyRootFilesystem AllowPrivilegeEscalation ProcMount SeccompProfile AppArmorProfile",
    {"Capabilities": _form("Add Drop")},
)
_PARTS: dict[str, Form] = {
    "Ports": _form("Name:s HostPort:i ContainerPort:i Protocol:s HostIP=hostIP:s"),
    "Env": _form("Name:s Value:s ValueFrom"),
    "Resources": _RESOURCES,
    "VolumeMounts": _form("Name:s ReadOnly:b RecursiveReadOnly MountPath:s SubPath:s MountPropagation SubPathExpr:s"),
    "VolumeDevices": _form("Name:s DevicePath:s"),
    "SecurityContext": _SECURITY,
}
container: Form = _form(_CONTAINER_TEXT, _PARTS)
ephemeral_container: Form = _form(_CONTAINER_TEXT + " TargetContainerName:s", _PARTS)
security_context: Form = _SECURITY

_POD_SECURITY = _form(
    "HostNetwork:b HostPID=hostPID:b HostIPC=hostIPC:b ShareProcessNamespace HostUsers SELinuxOptions=seLinuxOptions "
    "WindowsOptions RunAsUser RunAsGroup RunAsNonRoot SupplementalGroups SupplementalGroupsPolicy FSGroup=fsGroup "
    "FSGroupChangePolicy=fsGroupChangePolicy Sysctls SeccompProfile AppArmorProfile "
    "SELinuxChangePolicy=seLinuxChangePolicy"
)
toleration: Form = _form("Key:s Operator:s Value:s Effect:s TolerationSeconds")
_POD_SPEC = _form(
    "Volumes InitContainers Containers EphemeralContainers RestartPolicy:s TerminationGracePeriodSeconds "
    "ActiveDeadlineSeconds DNSPolicy=dnsPolicy:s NodeSelector ServiceAccountName:s AutomountServiceAccountToken "
    "NodeName:s SecurityContext ImagePullSecrets Hostname:s Subdomain:s SetHostnameAsFQDN Affinity SchedulerName:s "
    "Tolerations HostAliases PriorityClassName:s Priority PreemptionPolicy DNSConfig=dnsConfig ReadinessGates "
    "RuntimeClassName Overhead EnableServiceLinks TopologySpreadConstraints OS=os SchedulingGates ResourceClaims "
    "Resources HostnameOverride SchedulingGroup",
    {
        "InitContainers": container,
        "Containers": container,
        "EphemeralContainers": ephemeral_container,
        "SecurityContext": _POD_SECURITY,
        "Tolerations": toleration,
        "ImagePullSecrets": _form("Name:s"),
        "Resources": _RESOURCES,
    },
)
_OF_THE_SPEC = ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace", "hostUsers")


def pod_spec(spec: Object) -> Any:
    """The spec of a pod: its host namespaces stand in its security context there."""
    context = {**sub(spec, "securityContext"), **{k: spec[k] for k in _OF_THE_SPEC if k in spec}}
    shown = {**spec, "securityContext": context} if "securityContext" in spec else spec
    return _POD_SPEC(shown)


def pod_template(template: Object) -> Any:
    """A pod template: the fields of its metadata stand beside its spec there."""
    return {**sub(template, "metadata"), "Spec": pod_spec(sub(template, "spec"))}


def difference(before: Any, after: Any) -> str:
    """What has changed between two forms, as a unified diff of their texts.

    Source: k8s.io/apimachinery/pkg/util/diff.
    """
    old, new = (json.dumps(form, indent=1, ensure_ascii=False).splitlines(keepends=True) for form in (before, after))
    return "".join(list(difflib.unified_diff(old, new, n=3))[2:])


service_port: Form = _form("Name:s Protocol:s AppProtocol Port:i TargetPort:i NodePort:i")
taint: Form = _form("Key:s Value:s Effect:s TimeAdded")
disruption_budget_spec: Form = _form("MinAvailable Selector MaxUnavailable UnhealthyPodEvictionPolicy")
update_strategy: Form = _form("Type:s RollingUpdate")
success_policy: Form = _form("Rules", {"Rules": _form("SucceededIndexes SucceededCount")})
resource_claim: Form = _form("Name:s ResourceClaimName ResourceClaimTemplateName")
role_ref: Form = _form("APIGroup=apiGroup:s Kind:s Name:s")

_SELECTORS = _form("CEL=cel", {"CEL": _form("Expression:s")})
_DEVICE_TOLERATION = toleration
_DEVICE_REQUEST = "DeviceClassName:s Selectors AllocationMode:s Count:i"
_DEVICE_PARTS: dict[str, Form] = {
    "Selectors": _SELECTORS,
    "Tolerations": _DEVICE_TOLERATION,
    "Capacity": _form("Requests"),
}
_DEVICES = _form(
    "Requests Constraints Config",
    {
        "Requests": _form(
            "Name:s Exactly FirstAvailable",
            {
                "Exactly": _form(f"{_DEVICE_REQUEST} AdminAccess Tolerations Capacity", _DEVICE_PARTS),
                "FirstAvailable": _form(f"Name:s {_DEVICE_REQUEST} Tolerations Capacity", _DEVICE_PARTS),
            },
        ),
        "Constraints": _form("Requests MatchAttribute DistinctAttribute"),
        "Config": _form("Requests Opaque", {"Opaque": _form("Driver:s Parameters")}),
    },
)
_CLAIM_SPEC = _form("Devices", {"Devices": _DEVICES})


def resource_claim_spec(spec: Object) -> Any:
    """What a claim of devices asks for."""
    return _CLAIM_SPEC({"devices": {}, **spec})


def resource_claim_template_spec(spec: Object) -> Any:
    """The claim that a template makes; its metadata keep their JSON names."""
    return {**sub(spec, "metadata"), "Spec": resource_claim_spec(sub(spec, "spec"))}


device_id: Form = _form("Driver:s Pool:s Device:s ShareID")

_SECRET = _form("Name:s Namespace:s")
volume_source: Form = _form(
    "GCEPersistentDisk=gcePersistentDisk AWSElasticBlockStore=awsElasticBlockStore HostPath Glusterfs NFS=nfs RBD=rbd "
    "Quobyte ISCSI=iscsi FlexVolume Cinder CephFS=cephfs FC=fc Flocker AzureFile VsphereVolume AzureDisk "
    "PhotonPersistentDisk PortworxVolume ScaleIO Local StorageOS=storageos CSI=csi",
    {
        "HostPath": _form("Path:s Type"),
        "NFS": _form("Server:s Path:s ReadOnly:b"),
        "FC": _form("TargetWWNs LUN=lun FSType=fsType:s ReadOnly:b WWIDs=wwids"),
        "Local": _form("Path:s FSType=fsType"),
        "CSI": _form(
            "Driver:s VolumeHandle:s ReadOnly:b FSType=fsType:s VolumeAttributes ControllerPublishSecretRef "
            "NodeStageSecretRef NodePublishSecretRef ControllerExpandSecretRef NodeExpandSecretRef",
            {
                f"{use}SecretRef": _SECRET
                for use in ("ControllerPublish", "NodeStage", "NodePublish", "ControllerExpand", "NodeExpand")
            },
        ),
    },
)
_NODE_REQUIREMENT = _form("Key:s Operator:s Values")
node_term: Form = _form(
    "MatchExpressions MatchFields", {"MatchExpressions": _NODE_REQUIREMENT, "MatchFields": _NODE_REQUIREMENT}
)
volume_affinity: Form = _form("Required", {"Required": _form("NodeSelectorTerms", {"NodeSelectorTerms": node_term})})
volume_claim_spec: Form = _form(
    "AccessModes Selector Resources VolumeName:s StorageClassName VolumeMode DataSource DataSourceRef "
    "VolumeAttributesClassName",
    {
        "Resources": _form("Limits Requests"),
        "DataSource": _form("APIGroup=apiGroup Kind:s Name:s"),
        "DataSourceRef": _form("APIGroup=apiGroup Kind:s Name:s Namespace"),
    },
)
csi_driver: Form = _form("Name:s NodeID=nodeID:s TopologyKeys Allocatable")
attachment_spec: Form = _form(
    "Attacher:s Source NodeName:s", {"Source": _form("PersistentVolumeName InlineVolumeSpec")}
)
parent: Form = _form("Group:s Resource:s Namespace:s Name:s")
object_reference: Form = _form(
    "Kind:s Namespace:s Name:s UID=uid:s APIVersion=apiVersion:s ResourceVersion:s FieldPath:s"
)
scope_selector: Form = _form("MatchExpressions", {"MatchExpressions": _form("ScopeName:s Operator:s Values")})
event_source: Form = _form("Component:s Host:s")
