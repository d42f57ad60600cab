"""Rules that many kinds share: numbers, names, selectors, percentages, addresses.

Source: k8s.io/apimachinery/pkg/api/validation, pkg/apis/meta/v1/validation, pkg/util/validation.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from typing import Any

from controlplane.apiserver.registry.objects import items, strings, sub, text, values
from machinery.api import labels, names
from machinery.api.fielderror import FieldError, forbidden, invalid, required, show, too_long
from machinery.api.meta import Object

IMMUTABLE = "field is immutable"
NOT_NEGATIVE = "must be greater than or equal to 0"
POSITIVE = "must be greater than 0"
Names = Callable[[str], list[str]]


def unsupported(field: str, value: Any, allowed: Iterable[Any]) -> FieldError:
    """The value is not one of those known; they are listed as given (`fielderror.not_supported` sorts them)."""
    told = ", ".join(show(v) for v in allowed)
    return FieldError("FieldValueNotSupported", field, f"Unsupported value: {show(value)}: supported values: {told}")


def missing(field: str, value: Any, detail: str = "") -> FieldError:
    """The value refers to something that does not exist (`fielderror.not_found` with a reason)."""
    told = f"Not found: {show(value)}"
    return FieldError("FieldValueNotFound", field, f"{told}: {detail}" if detail else told)


def repeated(field: str, value: Any, detail: str = "") -> FieldError:
    """The value must be unique and is not (`fielderror.duplicate` with a reason)."""
    told = f"Duplicate value: {show(value)}"
    return FieldError("FieldValueDuplicate", field, f"{told}: {detail}" if detail else told)


def check_names(field: str, value: str, rule: Names) -> list[FieldError]:
    """One error for each thing wrong with a name."""
    return [invalid(field, value, message) for message in rule(value)]


def not_negative(field: str, value: Any) -> list[FieldError]:
    """A number that may be absent, and may not be below 0."""
    return [invalid(field, value, NOT_NEGATIVE)] if isinstance(value, int) and value < 0 else []


def must_equal(field: str, new: Any, old: Any) -> list[FieldError]:
    """A field that can't be changed."""
    return [] if same(new, old) else [invalid(field, new, IMMUTABLE)]


def same(new: Any, old: Any) -> bool:
    """Equality that takes absent and empty for the same."""
    return new == old or (new in (None, "", [], {}) and old in (None, "", [], {}))


def is_one_of(field: str, value: str, allowed: Iterable[str]) -> list[FieldError]:
    """A required word of a list."""
    if not value:
        return [required(field)]
    return [] if value in allowed else [unsupported(field, value, allowed)]


def label_map(field: str, values_: dict[str, str]) -> list[FieldError]:
    """Labels, or a map that selects by them."""
    errors: list[FieldError] = []
    for key, value in sorted(values_.items()):
        errors += check_names(field, key, names.qualified_name)
        errors += check_names(field, value, names.label_value)
    return errors


MOST_ANNOTATION_BYTES = 256 * 1024


def annotation_map(field: str, found: dict[str, str]) -> list[FieldError]:
    """Annotations of a template; those of objects are checked with the rest of their metadata."""
    errors: list[FieldError] = []
    for key in sorted(found):
        errors += [invalid(field, key, message) for message in names.qualified_name(key.lower())]
    size = sum(len(part.encode("utf-8", "surrogatepass")) for pair in found.items() for part in pair)
    if size > MOST_ANNOTATION_BYTES:
        errors.append(too_long(field, MOST_ANNOTATION_BYTES))
    return errors


def label_selector(field: str, selector: Any, *, bad_values: bool = True) -> list[FieldError]:
    """A LabelSelector."""
    if not isinstance(selector, dict):
        return []
    errors = label_map(f"{field}.matchLabels", strings(selector, "matchLabels"))
    for index, expression in enumerate(items(selector, "matchExpressions")):
        at = f"{field}.matchExpressions[{index}]"
        operator, wanted = text(expression, "operator"), values(expression, "values")
        if operator in ("In", "NotIn"):
            if not wanted:
                errors.append(required(f"{at}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
        elif operator in ("Exists", "DoesNotExist"):
            if wanted:
                errors.append(
                    forbidden(f"{at}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
                )
        else:
            errors.append(invalid(f"{at}.operator", operator, "not a valid selector operator"))
        errors += check_names(f"{at}.key", text(expression, "key"), names.qualified_name)
        for position, value in enumerate(wanted):
            if bad_values and isinstance(value, str):
                errors += check_names(f"{at}.values[{position}]", value, names.label_value)
    return errors


def selector_of(selector: Any) -> labels.Selector | None:
    """The meaning of a LabelSelector; None if it has none."""
    try:
        return labels.from_selector(selector if isinstance(selector, dict) else None)
    except (ValueError, TypeError, AttributeError):
        return None


def is_empty_selector(selector: Any) -> bool:
    """Whether a LabelSelector selects everything."""
    return isinstance(selector, dict) and not sub(selector, "matchLabels") and not items(selector, "matchExpressions")


def percent_or_number(field: str, value: Any) -> list[FieldError]:
    """A number from 0 on, or a percentage."""
    if isinstance(value, str):
        return check_names(field, value, names.percent)
    return not_negative(field, value)


def at_most_all(field: str, value: Any) -> list[FieldError]:
    """A percentage that is no more than 100%."""
    whole = percent(value)
    return [invalid(field, value, "must not be greater than 100%")] if whole is not None and whole > 100 else []


def percent(value: Any) -> int | None:
    """The number of a percentage; None if it is none."""
    if isinstance(value, str) and not names.percent(value) and len(value) < 12:
        return int(value[:-1])
    return None


def number_of(value: Any) -> int:
    """A number or percentage as a number, to see whether it is 0."""
    whole = percent(value)
    return whole if whole is not None else value if isinstance(value, int) else 0


Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_ADDRESS = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
_RANGE = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"


_LEADING_ZEROS = re.compile(r"(?<![0-9a-fA-F:])0+(?=[0-9]+(\.|$))|(?<=:)0+(?=[0-9]+\.)")


def _without_leading_zeros(address: str) -> str:
    """The octets of an IPv4 address without leading zeros, as Go once read them."""
    return _LEADING_ZEROS.sub("", address) if "." in address else address


def parse_address(value: Any) -> Address | None:
    """An IP address without zone; leading zeros of octets count for nothing. None for anything else."""
    if not isinstance(value, str) or "%" in value:
        return None
    try:
        return ipaddress.ip_address(_without_leading_zeros(value))
    except ValueError:
        return None


def parse_network(value: Any) -> Network | None:
    """A range of addresses in CIDR form, whatever its host bits and leading zeros; None for anything else."""
    address, slash, prefix = value.partition("/") if isinstance(value, str) else ("", "", "")
    found = parse_address(address)
    if found is None or not slash or not prefix.isascii() or not prefix.isdigit() or len(prefix) > 18:
        return None
    try:
        return ipaddress.ip_network(
            (int(found), int(prefix)) if found.version == 6 else f"{found}/{int(prefix)}", False
        )
    except ValueError:
        return None


def _is_mapped(address: Address | None) -> bool:
    return isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None


def check_address(field: str, value: str) -> list[FieldError]:
    """An IP address that all programs read alike. Source: k8s.io/apimachinery/pkg/util/validation/ip.go."""
    found = parse_address(value)
    if found is None:
        return [invalid(field, value, _ADDRESS)]
    if _without_leading_zeros(value) != value:
        return [invalid(field, value, "must not have leading 0s")]
    return [invalid(field, value, "must not be an IPv4-mapped IPv6 address")] if _is_mapped(found) else []


def check_network(field: str, value: str) -> list[FieldError]:
    """A range of addresses that all programs read alike: its host bits are 0."""
    found = parse_network(value)
    if found is None:
        return [invalid(field, value, _RANGE)]
    address, _, prefix = value.partition("/")
    if _without_leading_zeros(address) != address or prefix != str(int(prefix)):
        return [invalid(field, value, "must not have leading 0s in IP or prefix length")]
    first = parse_address(address)
    if _is_mapped(first):
        return [invalid(field, value, "must not have an IPv4-mapped IPv6 address")]
    if first != found.network_address:
        return [invalid(field, value, "must not have bits set beyond the prefix length")]
    return []


def check_interface(field: str, value: str) -> list[FieldError]:
    """The address of an interface with the length of its network's prefix, in canonical form."""
    address, _, prefix = value.partition("/")
    found = parse_address(address)
    if found is None or parse_network(value) is None:
        told = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)"
        return [invalid(field, value, told)]
    size = int(prefix)
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found, size = found.ipv4_mapped, size - 96 if size > 32 else size
    canonical = f"{found}/{size}"
    return [] if value == canonical else [invalid(field, value, f"must be in canonical form ({show(canonical)})")]


def address_warnings(field: str, value: str) -> list[str]:
    """What may be taken, but is better written in another way."""
    address = parse_address(value)
    if address is None:
        return []
    usual: Address = address
    if _without_leading_zeros(value) != value or _is_mapped(address):
        usual = getattr(address, "ipv4_mapped", None) or address
        told = "non-standard IP address {} will be considered invalid in a future Kubernetes release: use {}"
    elif str(address) != value:
        told = "IPv6 address {} should be in RFC 5952 canonical format ({})"
    else:
        return []
    return [f"{field}: {told.format(show(value), show(str(usual)))}"]


def network_warnings(field: str, value: str) -> list[str]:
    """What may be taken as a range, but is better written in another way."""
    network = parse_network(value)
    if network is None or network.version == 4 or value.startswith(str(network.network_address)):
        return []
    told = f"IPv6 CIDR value {show(value)} should be in RFC 5952 canonical format ({show(str(network))})"
    return [f"{field}: {told}"]


def unspecial_address(field: str, value: str) -> list[FieldError]:
    """An address that packets from elsewhere can have: not unspecified, loopback, link-local."""
    address = parse_address(value)
    if address is None:
        return [invalid(field, value, "must be a valid IP address")]
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    errors = []
    if address.is_unspecified:
        errors.append(invalid(field, value, f"may not be unspecified ({value})"))
    if address.is_loopback:
        errors.append(invalid(field, value, "may not be in the loopback range (127.0.0.0/8, ::1/128)"))
    if address.is_link_local:
        errors.append(invalid(field, value, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"))
    if address.is_multicast and (
        address in ipaddress.ip_network("224.0.0.0/24")
        if address.version == 4
        else address in ipaddress.ip_network("ff02::/16")
    ):
        errors.append(invalid(field, value, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"))
    return errors


def qualified_key(field: str, value: str) -> list[FieldError]:
    """A key of labels, taints, spread terms: a qualified name."""
    return check_names(field, value, names.qualified_name)


def ordered(found: dict[str, str]) -> dict[str, str] | None:
    """A map as messages show it: in the order of its keys, and null if it is empty."""
    return dict(sorted(found.items())) or None


def dictionary(obj: Any, *path: str) -> Object | None:
    """The object at this path, if there is one."""
    found = sub(obj, *path[:-1]).get(path[-1])
    return found if isinstance(found, dict) else None
