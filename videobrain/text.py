"""Text that can be written: whatever the world brings, what we keep and send is valid Unicode."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, ValidationError

_MISFITS = 5
_HALF = re.compile("[\ud800-\udfff]")


def well_formed(text: str) -> str:
    """The text with each half of a surrogate pair replaced.

    Such halves come from file names that are not valid UTF-8 and from JSON escapes; no encoder accepts them.
    """
    return text.encode("utf-8", "replace").decode("utf-8") if _HALF.search(text) else text


def misfits(error: ValidationError, *, whole: str = "value") -> str:
    """What of a value does not fit its type, field by field, the first ones.

    Args:
        error: What pydantic found.
        whole: How the value is called where no field of it is at fault.
    """
    return "; ".join(
        f"{'.'.join(map(str, each['loc'])) or whole}: {each['msg'].removeprefix('Value error, ')}"
        for each in error.errors()[:_MISFITS]
    )


Text = Annotated[str, AfterValidator(well_formed)]
"""A string field that is always valid Unicode."""
