"""Other tools' export files as import rows: one exported JSON object gives none, one or several.

What all conversions do: nested properties become ``a.b``, arrays JSON text; where there is no user id, the anonymous
one is the user; the event's own time is `inserted_at`. Each tool's module says where its shapes are documented.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from ._amplitude import from_amplitude
from ._common import Converter
from ._mixpanel import from_mixpanel
from ._posthog import from_posthog
from ._rows import Rows
from ._segment import from_rudderstack, from_segment

CONVERTERS: Mapping[str, Converter] = MappingProxyType(
    {
        "segment": from_segment,
        "rudderstack": from_rudderstack,
        "posthog": from_posthog,
        "amplitude": from_amplitude,
        "mixpanel": from_mixpanel,
    }
)
"""By tool. The rows are unchecked: pass each through `checked`. Raises `InvalidCall` for what is no such event."""


def converter(tool: str, company_group: str | None = None) -> Converter:
    """The converter of a tool's export; ``company_group`` is the type of groups that are companies, if it is named.

    Raises `ValueError` for a tool that is not known.
    """
    if tool not in CONVERTERS:
        raise ValueError(f"converted_from must be one of {', '.join(sorted(CONVERTERS))}")
    if company_group is None:
        return CONVERTERS[tool]
    make: Callable[..., Rows] = CONVERTERS[tool]
    return partial(make, company_group=company_group)
