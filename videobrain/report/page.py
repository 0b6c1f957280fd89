"""The page: one HTML file that needs nothing beside itself.

Everything that a model, a tool or a caller wrote is escaped; as a second wall the page forbids every script but its
own, by hash, and every request, through its content security policy.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from videobrain.agent.choices import LETTERS
from videobrain.agent.trace import Trace
from videobrain.files import whole_file
from videobrain.report import words
from videobrain.report.reader import read_trace


@cache
def environment() -> Environment:
    """The templates' environment: everything is escaped, a name that is not there is an error."""
    environment = Environment(
        loader=PackageLoader("videobrain.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    environment.filters |= {
        "argument": words.argument,
        "clock": words.clock,
        "number": words.number,
        "pretty_json": words.pretty_json,
        "spoken": words.spoken,
        "took": words.took,
        "video_name": words.video_name,
    }
    environment.globals |= {"LETTERS": LETTERS, "counted": words.counted, "frame_range": words.frame_range}
    return environment


def _finalize(value: Any) -> Any:
    return words.clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def asset(name: str) -> str:
    """A file of this package as text."""
    return resources.files("videobrain.report").joinpath(name).read_text(encoding="utf-8")


def render_report(trace: Trace) -> str:
    """A run as one self-contained HTML page.

    Args:
        trace: The run, finished or not. Without the frames' bytes the page shows placeholders.
    """
    script = asset("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        environment()
        .get_template("template.html.j2")
        .render(run=read_trace(trace), style=Markup(asset("page.css")), script=Markup(script), policy=policy)
    )


def save_report(trace: Trace, path: str | Path) -> Path:
    """Write a run as one self-contained HTML page.

    The file is written aside and renamed, so that it is whole or not there.

    Args:
        trace: The run, finished or not.
        path: Where the page goes; missing directories are made.

    Returns:
        The path.
    """
    path = Path(path)
    page = render_report(trace).encode("utf-8")
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write(page)
    return path
