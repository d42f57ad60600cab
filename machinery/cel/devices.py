"""What CEL expressions that choose devices can name: `device.attributes["gpu.example.com"].model == "a100"`.

Source: k8s.io/dynamic-resource-allocation/cel/compile.go.
"""

from __future__ import annotations

from typing import Final

from machinery.cel import types
from machinery.cel.declarations import Declared, Field, scope_of
from machinery.cel.library.kubernetes import Amount
from machinery.cel.types import Type


def _device() -> Declared:
    def by_domain(value: Type) -> Declared:
        return Declared(types.map_of(types.STRING, types.map_of(types.STRING, value)))

    fields = {
        "driver": Declared(types.STRING),
        "attributes": by_domain(types.DYN),
        "capacity": by_domain(Type("opaque", Amount.type_name)),
        "allowMultipleAllocations": Declared(types.BOOL),
    }
    return Declared(
        Type("object", "kubernetes.DRADevice"), fields={name: Field(name, each) for name, each in fields.items()}
    )


SCOPE: Final = scope_of(device=_device())


def chooses(kind: Type) -> bool:
    """Whether a result of this type says if a device is wanted."""
    return kind in (types.BOOL, types.DYN)
