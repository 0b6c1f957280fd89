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

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from videobrain.agent.choices import LETTERS
from videobrain.agent.trace import Trace
from videobrain.files import whole_file
from videobrain.report import words
from videobrain.report.reader import read_trace
from videobrain.report.view import RunView


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
        "ranges": words.ranges,
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
    return render_run(read_trace(trace))


def render_run(run: RunView) -> str:
    """The page of a run that has been read."""
    return render("template.html.j2", script=asset("page.js"), run=run)


def render(template: str | Template, *, script: str = "", style: str = "", **values: Any) -> str:
    """A page from one of this package's templates, with its style, and a policy that allows this script alone.

    Args:
        template: The template's name, or one that `environment` has made.
        script: What runs on the page.
        style: Rules that are added to this package's.
        values: What the template shows.
    """
    allowed = "'none'"
    if script:
        allowed = f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode('ascii')}'"
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed}; "
        "base-uri 'none'; form-action 'none'"
    )
    styles = Markup(asset("page.css") + style)
    return environment().get_template(template).render(script=Markup(script), style=styles, policy=policy, **values)


def save_report(trace: Trace, path: str | Path) -> Path:
    """Write a run as one self-contained HTML page.

    The file is written aside and renamed, so that it is whole or not there.

    Args:
        trace: The run, finished or not.
        path: Where the page goes; missing directories are made.

    Returns:
        The path.
    """
    return write_page(Path(path), render_report(trace))


def write_page(path: Path, page: str) -> Path:
    """Write a page whole or not at all; missing directories are made. Returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write(page.encode("utf-8"))
    return path
