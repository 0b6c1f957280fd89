"""Text that can be written: whatever the world brings, what we keep and send is valid Unicode."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

_HALF = re.compile("[\ud800-\udfff]")


def well_formed(text: str) -> str:
    """The text with each half of a surrogate pair replaced.

    Such halves come from file names that are not valid UTF-8 and from JSON escapes; no encoder accepts them.
    """
    return text.encode("utf-8", "replace").decode("utf-8") if _HALF.search(text) else text


Text = Annotated[str, AfterValidator(well_formed)]
"""A string field that is always valid Unicode."""
