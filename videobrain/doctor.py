"""What is installed, what is used, what can be reached, and what to do about the rest."""

from __future__ import annotations

import importlib.util
import platform
import sys
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

import anyio.to_thread
from pydantic import BaseModel, ConfigDict

from videobrain.errors import ConfigurationError, MissingDependencyError, VideoBrainError
from videobrain.index.weights import weights_on_disk
from videobrain.limits import Limits
from videobrain.models import OpenAIModel, resolve_model
from videobrain.models.bundled import BUNDLED, bundled_model
from videobrain.models.resolve import is_configured, own_encoder
from videobrain.models.vllm import ManagedVLLM
from videobrain.settings import Settings

_PACKAGES = {
    "av": "",
    "openai": "",
    "torch": "local",
    "torchcodec": "local",
    "transformers": "local",
    "open_clip_torch": "local",
    "hnswlib": "local",
    "llguidance": "local",
    "vllm": "vllm",
}


_SUGGESTED_MODEL = "Qwen/Qwen3-VL-8B-Instruct"


class Finding(BaseModel):
    """One thing that was looked at."""

    model_config = ConfigDict(frozen=True)

    subject: str
    state: Literal["ok", "note", "error"]
    text: str
    advice: str = ""


async def examine(*, model: str | None = None, base_url: str | None = None) -> list[Finding]:
    """Look at everything that a run would need. Starts no model and downloads nothing.

    Args:
        model: Model string to look at; by default what `VideoBrain` would use.
        base_url: Address of the server to reach.
    """
    settings = Settings()
    findings = [Finding(subject="python", state="ok", text=f"{platform.python_version()} on {platform.platform()}")]
    findings += await anyio.to_thread.run_sync(_packages)
    findings.append(await anyio.to_thread.run_sync(_decoder))
    findings.append(await anyio.to_thread.run_sync(_device))
    findings.append(await anyio.to_thread.run_sync(_encoder, model, settings))
    findings.append(await anyio.to_thread.run_sync(_cache, settings))
    findings.append(await anyio.to_thread.run_sync(_bundled))
    findings.append(await _model(model, base_url, settings))
    return findings


def _packages() -> list[Finding]:
    findings = []
    for name, extra in _PACKAGES.items():
        try:
            findings.append(Finding(subject=name, state="ok", text=version(name)))
        except PackageNotFoundError:
            advice = f"pip install 'videobrain[{extra}]'" if extra else "pip install videobrain"
            findings.append(Finding(subject=name, state="note", text="not installed", advice=advice))
    return findings


def _decoder() -> Finding:
    from videobrain.errors import MissingDependencyError
    from videobrain.video.torchcodec import import_torchcodec

    try:
        import_torchcodec()
    except MissingDependencyError as error:
        return Finding(
            subject="decoder",
            state="note",
            text=f"PyAV (torchcodec cannot be used: {error.message.splitlines()[0]})",
            advice="PyAV reads everything; torchcodec needs FFmpeg's shared libraries (apt-get install ffmpeg, "
            "brew install ffmpeg).",
        )
    return Finding(subject="decoder", state="ok", text="torchcodec, checked against PyAV's frame table")


def _device() -> Finding:
    if importlib.util.find_spec("torch") is None:
        return Finding(
            subject="device",
            state="note",
            text="no torch, so no frame encoder and no local: models",
            advice="pip install 'videobrain[local]'",
        )
    import torch

    if torch.cuda.is_available():
        names = ", ".join(
            f"{torch.cuda.get_device_name(i)} ({torch.cuda.get_device_properties(i).total_memory / 2**30:.0f} GiB)"
            for i in range(torch.cuda.device_count())
        )
        return Finding(subject="device", state="ok", text=names)
    if torch.backends.mps.is_available():
        return Finding(subject="device", state="ok", text="Apple GPU (mps)")
    return Finding(subject="device", state="ok", text=f"CPU, {torch.get_num_threads()} threads")


def _encoder(model: str | None, settings: Settings) -> Finding:
    if importlib.util.find_spec("open_clip") is None:
        return Finding(
            subject="encoder",
            state="note",
            text="open_clip is not installed; clip_sample will be withdrawn",
            advice="pip install 'videobrain[local]'",
        )
    import open_clip  # noqa: F401 - names of its own table are looked up only once it is imported

    own = _own_encoder(model, settings)
    encoder = own or settings.encoder
    if weights_on_disk(encoder):
        text = f"{encoder}, weights on disk" + (", the model's own" if own else "")
        return Finding(subject="encoder", state="ok", text=text)
    if settings.offline:
        return Finding(
            subject="encoder",
            state="note",
            text=f"{encoder}: weights are not on disk, and VIDEOBRAIN_OFFLINE is set",
            advice="Name a local model in VIDEOBRAIN_ENCODER, or index a video once while online.",
        )
    return Finding(subject="encoder", state="ok", text=f"{encoder}, to be downloaded on first use")


def _own_encoder(model: str | None, settings: Settings) -> str | None:
    """The encoder that the named model brings, where the user chose none."""
    named = model or settings.model
    if "encoder" in settings.model_fields_set or not named:
        return None
    try:
        return own_encoder(named)
    except ConfigurationError:  # the finding about the model tells of it
        return None


def _bundled() -> Finding:
    try:
        directory = bundled_model()
    except ConfigurationError as error:
        return Finding(subject="bundled model", state="note", text=error.message, advice=error.hint)
    megabytes = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()) / 1e6
    return Finding(subject="bundled model", state="ok", text=f"{BUNDLED}, {megabytes:.1f} MB in {directory}")


def _cache(settings: Settings) -> Finding:
    files = [path for path in settings.cache_dir.rglob("*") if path.is_file()] if settings.cache_dir.is_dir() else []
    megabytes = sum(path.stat().st_size for path in files) / 2**20
    return Finding(subject="cache", state="ok", text=f"{settings.cache_dir}: {len(files)} files, {megabytes:.1f} MiB")


async def _model(spec: str | None, base_url: str | None, settings: Settings) -> Finding:
    unnamed = not is_configured(spec, base_url=base_url, settings=settings)
    named = BUNDLED if unnamed else spec
    settings = settings.model_copy(update={"reply_cache": False})  # the model itself is looked at
    try:
        model = await anyio.to_thread.run_sync(partial(resolve_model, named, base_url=base_url, settings=settings))
    except (ConfigurationError, MissingDependencyError) as error:
        text = f"none is configured. {error.message}" if unnamed else error.message
        advice = f"{error.hint} A server is started with: {serve_command(_SUGGESTED_MODEL)}"
        return Finding(subject="model", state="note", text=text, advice=advice)
    if unnamed:
        return Finding(
            subject="model",
            state="note",
            text=f"none is configured: {BUNDLED}, the bundled model, answers. It knows only the synthetic world.",
            advice="Name a real one in VIDEOBRAIN_MODEL, or a server in OPENAI_BASE_URL. A server is started with: "
            + serve_command(_SUGGESTED_MODEL),
        )
    if isinstance(model, ManagedVLLM):
        try:
            model.find_program()
        except (ConfigurationError, MissingDependencyError) as error:
            return Finding(subject="model", state="error", text=f"{model.name}: {error.message}", advice=error.hint)
    if not isinstance(model, OpenAIModel):
        return Finding(subject="model", state="ok", text=f"{model.name}, starts when it is first asked")
    try:
        capacity = await model.capacity()
    except VideoBrainError as error:
        return Finding(
            subject="model",
            state="error",
            text=error.message,
            advice=f"{error.hint} A server is started with: {serve_command(_SUGGESTED_MODEL)}".strip(),
        )
    finally:
        await model.aclose()
    silent = [server for server in model.servers if server.problem]
    if silent:
        answering = len(model.servers) - len(silent)
        return Finding(
            subject="model",
            state="error",
            text=f"{capacity.model} answers at {answering} of {len(model.servers)} servers. "
            + " ".join(server.problem for server in silent),
            advice="The others take its share. Is each of them running, and is its address right?",
        )
    length = f"context of {capacity.max_model_len} tokens" if capacity.max_model_len else "context unknown"
    return Finding(
        subject="model",
        state="ok",
        text=f"{capacity.model} answers, {length}",
        advice=""
        if capacity.max_model_len is None or capacity.max_model_len >= 32768
        else serve_command(capacity.model),
    )


def serve_command(model: str) -> str:
    """The command that serves a model for videobrain: room for all frames of a run, and native calls."""
    images = Limits().frames
    return (
        f'vllm serve {model} --max-model-len 65536 --limit-mm-per-prompt \'{{"image": {images}, "video": 0}}\' '
        "--enable-prefix-caching --enable-prompt-tokens-details --enable-auto-tool-choice --tool-call-parser hermes"
    )


def show(findings: list[Finding]) -> None:
    """Print findings as a table on stdout."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    marks = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "error": "[red]error[/]"}
    for finding in findings:
        table.add_row(marks[finding.state], finding.subject, finding.text.replace("[", r"\["))
        if finding.advice:
            table.add_row("", "", "[dim]" + finding.advice.replace("[", r"\[") + "[/]")
    Console(file=sys.stdout, soft_wrap=False).print(table)
