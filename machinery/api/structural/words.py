"""The words of a structural schema.

Source: apiextensions.k8s.io/v1 JSONSchemaProps.
"""

from __future__ import annotations

from typing import Final

INT_OR_STRING: Final = "x-kubernetes-int-or-string"
PRESERVE: Final = "x-kubernetes-preserve-unknown-fields"
EMBEDDED: Final = "x-kubernetes-embedded-resource"
LIST_TYPE: Final = "x-kubernetes-list-type"
LIST_KEYS: Final = "x-kubernetes-list-map-keys"
MAP_TYPE: Final = "x-kubernetes-map-type"
RULES: Final = "x-kubernetes-validations"
COMPOSED: Final = ("allOf", "anyOf", "oneOf")
