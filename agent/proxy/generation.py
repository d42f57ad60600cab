"""The generation number of this network namespace's rules, with the proxy's kind of error."""

from __future__ import annotations

from agent.nft import generation
from agent.nft.errors import NftError
from agent.proxy.errors import BackendError


def ruleset_generation() -> int:
    """The number now. Raises BackendError when the kernel has no nftables."""
    try:
        return generation.ruleset_generation()
    except NftError as error:
        raise BackendError(str(error)) from error
