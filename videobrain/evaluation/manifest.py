"""What a run is: which questions, asked of whom and how. Answers are kept apart by it."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from hashlib import sha256
from pathlib import PurePath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, JsonValue

from videobrain.brain import VideoBrain
from videobrain.evaluation.record import Record
from videobrain.evaluation.sample import Sample
from videobrain.installed import installed_version
from videobrain.resources import Reached

OPERATIONAL = frozenset(
    {
        "model",
        "prompts",  # what is in use of these two stands beside
        "constrain_replies",
        "request_timeout_seconds",
        "retries",
        "retry_seconds",
        "image_uuids",
        "reply_cache",
        "reply_cache_bytes",
        "stream_replies",
        "vllm_command",
        "vllm_start_seconds",
        "allow_remote",
        "decoder",
        "open_decoders",
        "decode_timeout_seconds",
        "frame_cache_bytes",
        "cache_dir",
        "index_cache_bytes",
        "encoder",  # the manifest names the one that is used
        "encoder_device",
        "encoder_batch_size",
        "offline",
        "warm_index",
    }
)
"""Settings that say how a machine works, not what it answers. A setting that is not named here counts as one that
answers depend on: asking again is the smaller harm."""
_SEEN = ("key", "question", "task", "options", "clip", "subtitles_start_seconds")
"""Fields of a sample that its answer depends on, beside its video and whether it has subtitles: where those lie is no
part of it. The truth may be corrected without asking again."""
_NAMES = {"benchmark": "the benchmark", "split": "the split", "model": "the model", "strategy": "the strategy"}


class Manifest(BaseModel):
    """What stands in a run's ``run.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    benchmark: str
    split: str
    model: str
    strategy: str
    settings: dict[str, JsonValue]
    """All else that answers depend on: limits, temperature, seed, tools, encoder and so on."""
    settings_digest: str
    """`Record.settings` of every record."""
    shard: str | None = None
    """Such as ``2/4``; None for a run of all videos."""
    questions: int = 0
    """How many questions the last start was about, finished ones included."""
    limit: int | None = None
    """How many questions the last start was limited to, where that left some out."""
    expected_questions: int | None = None
    """How many the split has by its authors' count, where that is known."""
    malformed: int = 0
    """How many rows of the benchmark's files could not be read at the last start."""
    missing_videos: int = 0
    """How many videos of this part of the benchmark were not there at the last start."""
    missing_questions: int = 0
    """How many questions are about them."""
    versions: dict[str, str] = {}
    """Of videobrain and Python, at the first start."""
    started_at: str = ""
    """Of the first start, ISO 8601, UTC."""

    def key(self, sample: Sample) -> str:
        """Key of a sample's answer in this run."""
        return content_key(
            sample, benchmark=self.benchmark, model=self.model, strategy=self.strategy, settings=self.settings_digest
        )

    def differences(self, other: Manifest) -> list[str]:
        """Why answers of the `other` run do not belong into this one, in words; empty where they do."""
        found = [
            f"{words} is {getattr(other, name)!r}, not {getattr(self, name)!r}"
            for name, words in _NAMES.items()
            if getattr(other, name) != getattr(self, name)
        ]
        names = dict.fromkeys((*self.settings, *other.settings))
        return found + [
            f"{name} is {_shown(other.settings, name)}, not {_shown(self.settings, name)}"
            for name in names
            if self.settings.get(name) != other.settings.get(name)
        ]


def manifest_of(
    brain: VideoBrain, reached: Reached, *, benchmark: str, split: str, subtitles: bool = True, evidence: bool = False
) -> Manifest:
    """The manifest of a run with this `VideoBrain`, as far as it can be known before there are questions.

    Args:
        brain: Who is asked.
        reached: What of it is in use.
        benchmark: Name of the benchmark.
        split: Which part of it.
        subtitles: Whether questions that have subtitles are asked with them.
        evidence: Whether it is also asked where answers are seen.
    """
    settings = {**settings_of(brain, reached), "subtitles": subtitles, "evidence": evidence}
    return Manifest(
        benchmark=benchmark,
        split=split,
        model=reached.model,
        strategy=brain.strategy.name,
        settings=settings,
        settings_digest=digest(settings),
        versions={"videobrain": installed_version(), "python": platform.python_version()},
    )


def settings_of(brain: VideoBrain, reached: Reached) -> dict[str, JsonValue]:
    """Everything beside the model and the strategy's name that an answer depends on."""
    return {
        "limits": brain.limits.model_dump(mode="json"),
        "strategy": {name: told(value) for name, value in _parts(brain.strategy).items()},
        "tools": {tool.name: digest(tool.spec.model_dump(mode="json"))[:12] for tool in brain.tools},
        "encoder": reached.encoder,
        **({"weights": reached.weights} if reached.weights else {}),
        "prompts": reached.prompts,
        "constrain_replies": reached.constrained,
        **brain.settings.model_dump(mode="json", exclude=set(OPERATIONAL)),
    }


def told(value: object, *, _within: tuple[int, ...] = ()) -> JsonValue:
    """What a value is, as JSON that is the same in every process: nothing of it is copied, and no address is in it.

    Of an object that is itself none of JSON's kinds it is its class and what its attributes hold; of one that has a
    name, such as a model, its class and that name; of a function or a class where it is defined.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, PurePath):
        return str(value)
    if id(value) in _within:
        return "..."
    within = (*_within, id(value))
    if isinstance(value, Mapping):
        return {str(key): told(each, _within=within) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [told(each, _within=within) for each in value]
    if isinstance(value, set | frozenset):
        return sorted((told(each, _within=within) for each in value), key=json.dumps)
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", fallback=told)
    if isinstance(value, partial):
        return {"partial": [told(each, _within=within) for each in (value.func, value.args, value.keywords)]}
    where = value if hasattr(value, "__qualname__") else type(value)
    place = f"{getattr(where, '__module__', '')}.{getattr(where, '__qualname__', '')}"
    if where is value:
        return place
    name = getattr(value, "name", None)
    parts = {"name": name} if isinstance(name, str) else _parts(value)
    return {place: {key: told(each, _within=within) for key, each in parts.items()}}


def _parts(value: object) -> dict[str, Any]:
    """The attributes that an object holds itself; those of a dataclass are its fields."""
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return dict(getattr(value, "__dict__", {}))


def content_key(sample: Sample, *, benchmark: str, model: str, strategy: str, settings: str) -> str:
    """Key of an answer: a digest of all that it depends on, the question as the model sees it included.

    Args:
        sample: The question.
        benchmark: Name of its benchmark.
        model: Who is asked.
        strategy: Name of the strategy.
        settings: Digest of the settings.
    """
    seen = sample.model_dump(mode="json", include=set(_SEEN))
    seen |= {"video": sample.video_name, "subtitles": sample.subtitles is not None}
    return digest([seen, benchmark, model, strategy, settings])[:32]


def key_of(record: Record) -> str:
    """Key of a record's answer."""
    return content_key(
        record.sample,
        benchmark=record.benchmark,
        model=record.model,
        strategy=record.strategy,
        settings=record.settings,
    )


def digest(value: object) -> str:
    """SHA-256 of a value that can be written as JSON."""
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _shown(settings: Mapping[str, JsonValue], name: str) -> str:
    return json.dumps(settings[name]) if name in settings else "unknown"
