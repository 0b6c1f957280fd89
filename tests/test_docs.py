"""What README and the documentation say is held against the code: their Python runs, their commands exist."""

from __future__ import annotations

import ast
import inspect
import json
import re
import shlex
import sys
import tomllib
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args

import anyio.to_thread
import pytest
import typer.main

from videobrain import Limits, Settings, errors
from videobrain.agent import Event, StopReason
from videobrain.cli import app
from videobrain.doctor import serve_command
from videobrain.testing import FakeServer, Fault, make_video

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [*(ROOT / page for page in ("README.md", "CONTRIBUTING.md", "examples/README.md")), *sorted(DOCS.glob("*.md"))]
MODEL, ADDRESS = "Qwen/Qwen3-VL-8B-Instruct", "http://localhost:8000/v1"
"""What the pages call a model and its server; a `FakeServer` stands in for it."""

_FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)


class Fence(NamedTuple):
    page: Path
    line: int
    text: str


def fences(page: Path, language: str) -> list[Fence]:
    text = page.read_text("utf-8")
    return [
        Fence(page, text.count("\n", 0, match.start(2)) + 1, match[2])
        for match in _FENCE.finditer(text)
        if match[1] == language
    ]


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


# --- Python ----------------------------------------------------------------------------------------------------------


def reply(body: dict[str, Any]) -> str:
    """Looks once where tools are offered, then answers in the form that is asked for."""
    texts = [
        message["content"] if isinstance(message["content"], str) else part.get("text", "")
        for message in body["messages"]
        for part in (message["content"] if isinstance(message["content"], list) else [None])
    ]
    if "uniform_sample" in texts[0] and not any(message["role"] == "assistant" for message in body["messages"]):
        call = '{"name": "uniform_sample", "arguments": {"start_frame": 0, "end_frame": 20}}'
        return f"<thinking>Look closer.</thinking><tool_call>{call}</tool_call>"
    asked = "".join(texts)
    answer = "It is red."
    if "Answer with the letter" in asked:
        answer = "A"
    elif "a JSON list of spans" in asked:
        answer = "[[0.5, 1.5]]"
    elif schema := re.search(r"Answer with JSON that fits this schema: (\{.*\})", asked):
        values = {"string": "red", "integer": 7}
        fields = json.loads(schema[1])["properties"]
        answer = json.dumps({field: values[kind["type"]] for field, kind in fields.items()})
    return f"<thinking>That is enough.</thinking><answer>{answer}</answer>"


@pytest.fixture
def server(tmp_path: Path, tiny_random_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    """A directory with two videos, and a server that answers every question about them."""
    make_video(tmp_path / "match.mp4", seconds=2)
    make_video(tmp_path / "training.mp4", seconds=1, scenes=["white"])
    monkeypatch.chdir(tmp_path)
    for variable in ("OPENAI_API_KEY", "VIDEOBRAIN_MODEL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("VIDEOBRAIN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("VIDEOBRAIN_ENCODER", str(tiny_random_encoder))
    monkeypatch.setenv("VIDEOBRAIN_WARM_INDEX", "false")
    with FakeServer(reply, models=[MODEL]) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        yield server


@pytest.mark.anyio
@pytest.mark.parametrize("page", [page for page in PAGES if fences(page, "python")], ids=page_name)
async def test_python_runs(page: Path, server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fences of a page run one after the other in one namespace, as a reader would run them; so do their tests."""
    module = types.ModuleType(f"docs_{page.stem}".replace("-", "_"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    tested: set[str] = set()
    for fence in fences(page, "python"):
        source = "\n" * (fence.line - 1) + fence.text.replace(ADDRESS, server.base_url)
        code = compile(source, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if code.co_flags & inspect.CO_COROUTINE:
            await eval(code, vars(module))
        else:  # in a thread, since it may have an event loop of its own
            await anyio.to_thread.run_sync(exec, code, vars(module))
        for test in [test for test in vars(module) if test.startswith("test_") and test not in tested]:
            tested.add(test)
            directory = tmp_path / test
            directory.mkdir()
            result = vars(module)[test](directory)
            if inspect.isawaitable(result):
                await result


# --- Commands --------------------------------------------------------------------------------------------------------


def commands(page: Path) -> list[list[str]]:
    lines = [
        line.removeprefix("$ ")
        for fence in fences(page, "console")
        for line in fence.text.splitlines()
        if line.startswith("$ ")
    ]
    return [shlex.split(line, comments=True) for line in lines]


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=page_name)
def test_commands_exist(page: Path) -> None:
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    for command in commands(page):
        match command:
            case ["videobrain", sub, *arguments]:
                assert sub in known, command
                wanted = known[sub]
                if groups := getattr(wanted, "commands", None):
                    assert arguments, command
                    assert arguments[0] in groups, command
                    wanted, arguments = groups[arguments[0]], arguments[1:]
                wanted.make_context(sub, arguments)  # parses them, and runs nothing
            case ["pip", "install", what]:
                assert set(re.findall(r"\w+", what.partition("[")[2])) <= set(extras), command
            case ["make", *arguments]:
                assert {word for word in arguments if "=" not in word} <= set(targets), command
            case [program, "-m", module, *_] if program.endswith("python"):
                if module.startswith("tests"):
                    assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file(), command
            case ["python", script, *_]:
                assert (ROOT / script).is_file(), command
            case ["export", assignment]:
                assert "=" in assignment
            case ["vllm", "serve", model, *arguments]:
                assert command == shlex.split(serve_command(model))
                assert {"--enable-prompt-tokens-details", "--enable-auto-tool-choice"} <= set(arguments)
            case _:
                pytest.fail(f"{command} is no command that this test knows")


def options(parameters: list[Any]) -> set[str]:
    named = [option for parameter in parameters for option in (*parameter.opts, *parameter.secondary_opts)]
    return {option for option in named if option.startswith("-")}


def test_command_line_page_names_every_command_and_option() -> None:
    page = (DOCS / "command-line.md").read_text("utf-8")
    sections = {part.partition("\n")[0]: part for part in page.split("\n## ")[1:]}
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert list(sections) == list(known)
    for sub, command in known.items():
        named = set(re.findall(r"`(--?[a-z][a-z-]*)", sections[sub]))
        below = getattr(command, "commands", {})
        assert all(f"`{sub} {name}`" in sections[sub] for name in below), sub
        parameters = [each for one in (command, *below.values()) for each in one.params]
        assert named == options(parameters) - {"--help", "-h"}, sub


# --- Tables ----------------------------------------------------------------------------------------------------------


def rows(page: str) -> dict[str, list[str]]:
    """Rows of all tables of a page, by the code in their first cell."""
    cells = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in (DOCS / page).read_text("utf-8").splitlines()
        if line.startswith("| `")
    ]
    return {code: row for row in cells for code in re.findall(r"`([^`]+)`", row[0])}


def test_configuration_page_has_every_setting_with_its_default() -> None:
    found = rows("configuration.md")
    settings = {f"VIDEOBRAIN_{field.upper()}": info for field, info in Settings.model_fields.items()}
    assert set(found) == set(settings)
    for variable, info in settings.items():
        default = info.get_default(call_default_factory=True)
        written = str(default).lower() if isinstance(default, bool) else str(default)
        shown = "none" if default in (None, "") else f"`{written}`"
        if variable != "VIDEOBRAIN_CACHE_DIR":  # a place of the system's
            assert found[variable][1] == shown, variable


def test_limits_page_has_every_limit_with_its_default() -> None:
    found = rows("limits.md")
    text = (DOCS / "limits.md").read_text("utf-8")
    for limit, info in Limits.model_fields.items():
        if limit != "on_limit":
            assert found[limit][1] == ("none" if info.default is None else f"`{info.default}`"), limit
    assert all(f"`{reason}`" in text for reason in get_args(StopReason))


def test_limits_page_has_the_time_outs_and_bounds_of_the_code() -> None:
    from videobrain.index import store, weights
    from videobrain.models import endpoint, retry, server, supervisor
    from videobrain.video import container

    def seconds(value: float) -> str:
        return f"{value:g} s"

    settings, retries = Settings(), retry.RetryPolicy()
    lines = (DOCS / "limits.md").read_text("utf-8").splitlines()
    for begins, says in {
        "| one request": seconds(settings.request_timeout_seconds),
        "| connecting": seconds(endpoint._CONNECT_SECONDS),
        "| all tries": seconds(settings.retry_seconds),
        "| one reply of a `local:`": seconds(settings.request_timeout_seconds),
        "| a managed server's start": seconds(settings.vllm_start_seconds),
        "| a managed server's end": seconds(supervisor.GRACE_SECONDS),
        "| one tool call": seconds(settings.tool_timeout_seconds),
        "| opening a video": seconds(settings.decode_timeout_seconds),
        "| opening a URL": f"{seconds(container._REMOTE_OPEN_SECONDS)}, {seconds(container._REMOTE_READ_SECONDS)}",
        "| asking whether the model hub": seconds(weights._CONNECT_SECONDS),
        "| waiting for the lock": seconds(store._LOCK_SECONDS),
        "The delay is random": f"begins at {seconds(retries.base_seconds)} and doubles",
        "`VIDEOBRAIN_RETRIES` (": f"({settings.retries}) times",
        "| tokens of one reply": str(settings.max_output_tokens),
        "| characters of each text": f"| {settings.text_characters or 'none'} | `VIDEOBRAIN_TEXT_CHARACTERS` |",
        "| encoded frames": f"{settings.frame_cache_bytes // 2**20} MiB",
        "| open decoders": str(settings.open_decoders),
        "| indexes on disk": f"{settings.index_cache_bytes // 2**30} GiB",
        "| logs of managed": f"the last {server._KEPT_LOGS}",
    }.items():
        assert any(begins in line and says in line for line in lines), begins


def test_errors_page_has_every_error() -> None:
    page = (DOCS / "errors.md").read_text("utf-8")
    tree = fences(DOCS / "errors.md", "text")[0].text
    classes = {name for name, error in inspect.getmembers(errors, inspect.isclass) if issubclass(error, Exception)}
    assert set(re.findall(r"\w+(?:Error|Exceeded)\b", tree)) == classes
    assert set(rows("errors.md")) >= classes - {"VideoBrainError", "ModelError"}
    assert set(re.findall(r"\b[A-Z]\w+Error\b", page)) <= classes | {"ImportError", "ToolError"}


def test_concepts_page_has_every_event() -> None:
    kinds = {kind.model_fields["kind"].default for kind in get_args(get_args(Event)[0])}
    assert kinds <= set(rows("concepts.md"))


def test_testing_page_has_every_fault() -> None:
    faults = {member for member, value in vars(Fault).items() if isinstance(value, classmethod)}
    assert set(re.findall(r"`Fault\.(\w+)\(", (DOCS / "testing.md").read_text("utf-8"))) == faults


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_variables_are_settings(page: Path) -> None:
    ours = {f"VIDEOBRAIN_{field.upper()}" for field in Settings.model_fields}
    of_tests = {"VIDEOBRAIN_TEST_VLLM", "VIDEOBRAIN_SHARED_DATA"}
    assert set(re.findall(r"VIDEOBRAIN_[A-Z_]*[A-Z]", page.read_text("utf-8"))) <= ours | of_tests


# --- Links -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text("utf-8")
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
    assert all((page.parent / target).exists() for target in targets if target), targets


def test_readme_names_every_benchmark() -> None:
    named = {command[2] for command in commands(ROOT / "README.md") if command[:2] == ["python", "-m"]}
    scripts = (path for path in (ROOT / "tests" / "benchmarks").glob("*.py") if "__main__" in path.read_text("utf-8"))
    assert named == {f"tests.benchmarks.{path.stem}" for path in scripts}
