"""The generation number of this network namespace's nftables rules: every transaction of anybody raises it by one.

iptables 1.8's usual variant writes nftables too, so the number tells about both.

Source: linux/netfilter/nf_tables.h (NFT_MSG_GETGEN, NFTA_GEN_ID), netlink(7).
"""

from __future__ import annotations

import socket
import struct

from agent.nft.errors import NftError

_NETLINK_NETFILTER = 12
_NLM_F_REQUEST = 1
_GETGEN = (10 << 8) | 16  # NFNL_SUBSYS_NFTABLES, NFT_MSG_GETGEN
_NFTA_GEN_ID = 1
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_NLMSG_ERROR = 2


def ruleset_generation() -> int:
    """The number now. Raises NftError when the kernel has no nftables."""
    request = _HEADER.pack(_HEADER.size + 4, _GETGEN, _NLM_F_REQUEST, 1, 0) + struct.pack("=BBH", 0, 0, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER) as netlink:
            netlink.settimeout(5)
            netlink.sendto(request, (0, 0))
            answer = netlink.recv(4096)
    except OSError as error:
        raise NftError(f"nftables: {error.strerror or error}") from error
    length, kind, _, _, _ = _HEADER.unpack_from(answer)
    if kind == _NLMSG_ERROR:
        raise NftError("nftables: this kernel does not have it")
    at = _HEADER.size + 4
    while at + 4 <= length:
        size, attribute = struct.unpack_from("=HH", answer, at)
        if attribute & 0x3FFF == _NFTA_GEN_ID:
            return int(struct.unpack_from(">I", answer, at + 4)[0])
        at += max(4, (size + 3) & ~3)
    raise NftError("nftables: the kernel's answer has no generation number")
