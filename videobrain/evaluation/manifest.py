"""What a run is: which questions, asked of whom and how. Answers are kept apart by it."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from hashlib import sha256
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, JsonValue

from videobrain.brain import VideoBrain
from videobrain.evaluation.record import Record
from videobrain.evaluation.sample import Sample
from videobrain.installed import installed_version
from videobrain.resources import Reached

_OPERATIONAL = frozenset(
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
    strategy = brain.strategy
    own: dict[str, Any] = asdict(strategy) if is_dataclass(strategy) and not isinstance(strategy, type) else {}
    return {
        "limits": brain.limits.model_dump(mode="json"),
        "strategy": json.loads(json.dumps(own, default=repr)),
        "tools": {tool.name: digest(tool.spec.model_dump(mode="json"))[:12] for tool in brain.tools},
        "encoder": reached.encoder,
        "prompts": reached.prompts,
        "constrain_replies": reached.constrained,
        **brain.settings.model_dump(mode="json", exclude=set(_OPERATIONAL)),
    }


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
