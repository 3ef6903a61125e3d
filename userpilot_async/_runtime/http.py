"""The HTTP library: httpx2 where it is installed, which goes on with httpx; else httpx. The only file that imports one.

Applications may bring transports of either, whichever is used here: `library_of`, `loaded`.
"""

from __future__ import annotations

import ssl
import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpcore
    import httpx
else:  # httpcore as well, and h11 with it: httpx itself imports them with the first request, 70 ms of the loop
    try:
        import httpcore2 as httpcore
        import httpx2 as httpx
    except ModuleNotFoundError:
        import httpcore
        import httpx

__all__ = ["httpcore", "httpx", "is_response", "library_of", "loaded", "tls_context"]

_NAMES = ("httpx", "httpx2")


def loaded() -> list[ModuleType]:
    """List the libraries that are loaded, one or both; the one that is used here is among them."""
    return [module for name in _NAMES if (module := sys.modules.get(name)) is not None]


def library_of(transport: object) -> ModuleType:
    """The library whose transport this is, and whose requests it takes; the one that is used here, if it is of none."""
    for module in loaded():
        if issubclass(type(transport), module.AsyncBaseTransport):
            return module
    return sys.modules[httpx.__name__]


def is_response(value: object) -> bool:
    """Ask whether this is a response of either library's."""
    return any(issubclass(type(value), module.Response) for module in loaded())


def tls_context(base_url: str = "https:") -> ssl.SSLContext:
    """Trust certifi's authorities, with either library, and none of the environment's; takes 20 to 125 ms.

    Nothing is loaded for a URL without TLS.
    """
    if base_url.startswith("http:"):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    import certifi  # what it imports takes longer than it does

    return ssl.create_default_context(cafile=certifi.where())
