"""Settings of one `VideoBrain`: environment variables ``VIDEOBRAIN_*``, or keyword arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import platformdirs
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


def default_cache_dir() -> Path:
    """The operating system's place for caches of this user."""
    return Path(platformdirs.user_cache_dir("videobrain", appauthor=False))


class Settings(BaseSettings):
    """How videobrain works on this machine. Each field is read from ``VIDEOBRAIN_<FIELD>`` where it is not given.

    ``none`` in a variable is Python's None; an empty variable counts as not set.
    """

    model_config = SettingsConfigDict(
        env_prefix="VIDEOBRAIN_",
        env_ignore_empty=True,
        env_parse_none_str="none",
        frozen=True,
        extra="forbid",
        protected_namespaces=(),
    )

    # What is asked, and how
    model: str | None = None
    """Model string where none is given: ``openai:NAME``, ``vllm:ID_OR_DIR``, ``local:ID_OR_DIR``, ``tiny``."""
    temperature: float | None = Field(default=0.0, ge=0)
    """Sampling temperature; ``None`` leaves it to the server."""
    seed: int | None = None
    """Sampling seed, where the server takes one."""
    max_output_tokens: int = Field(default=2048, ge=16)
    """Tokens that one reply may have."""
    prompts: str | None = None
    """Prompt profile in the place of the model's own, such as ``compact``: to ask a teacher in a student's words."""
    tool_calling: Literal["tags", "native"] = "tags"
    """``tags``: calls stand in the text (works everywhere). ``native``: the server's function calling."""
    constrain_replies: bool | None = None
    """Hold each reply to the grammar while it is generated (vLLM and ``local:``); None: as the model's profile says."""
    text_characters: int | None = Field(default=None, ge=1)
    """Characters that each text of a constrained reply may have: thinking, answer, strings of a call; None: as many as
    `max_output_tokens` leave room for. A server takes much longer to hold a reply to such a bound."""
    initial_frames: int = Field(default=16, ge=1)
    """Frames the model sees before it is asked (16 in the paper)."""
    subtitle_tokens: int = Field(default=4000, ge=1)
    """Tokens of subtitles that one run may show, where a question has them; a small context allows fewer."""
    tool_timeout_seconds: float = Field(default=60.0, gt=0)
    """Time one tool call may take, where the tool sets none itself."""

    # The endpoint
    request_timeout_seconds: float = Field(default=180.0, gt=0)
    """Time one request may take."""
    retries: int = Field(default=5, ge=0)
    """Tries after the first for a request that failed for a passing reason."""
    retry_seconds: float = Field(default=600.0, ge=0)
    """Time all tries of one request may take together before no further one is begun."""
    image_uuids: bool = False
    """Send each image's content hash along, so that vLLM's processor cache can be hit (vLLM only)."""
    reply_cache: bool = False
    """Keep replies to deterministic requests on disk, and give them again instead of asking (`CachedModel`). For
    models that are named by a string."""
    reply_cache_bytes: int = Field(default=256 * 2**20, ge=0)
    """Disk space for such replies; the oldest go first."""
    stream_replies: bool = False
    """Receive replies token by token; text deltas become events."""
    vllm_command: str = "vllm"
    """Command that runs vLLM's command line; it may live in another environment."""
    vllm_arguments: str = ""
    """Further arguments of ``vllm serve``, as on a shell's command line."""
    vllm_start_seconds: float = Field(default=900.0, gt=0)
    """Time a managed server may take until it is healthy."""

    # Video
    allow_remote: bool = False
    """Let http(s) URLs be opened as videos."""
    decoder: Literal["auto", "torchcodec", "pyav"] = "auto"
    """``auto``: torchcodec where it works and agrees with the frame table, else PyAV."""
    video_stream: int | None = Field(default=None, ge=0)
    """Index of the stream in the container; by default FFmpeg's best video stream."""
    decode_timeout_seconds: float = Field(default=120.0, gt=0)
    """Time that opening a video or decoding one batch of frames may take."""
    open_decoders: int = Field(default=8, ge=1)
    """Decoders kept open at once, over all videos."""
    frame_cache_bytes: int = Field(default=512 * 2**20, ge=0)
    """Memory for encoded frames, over all videos."""
    jpeg_quality: int = Field(default=90, ge=1, le=100)
    """JPEG quality of the frames that the model sees."""

    # Index
    cache_dir: Path = Field(default_factory=default_cache_dir)
    """Directory of everything that is kept between runs."""
    index_cache_bytes: int = Field(default=4 * 2**30, ge=0)
    """Disk space for frame indexes; the least recently used go first."""
    encoder: str = "hf-hub:timm/ViT-B-16-SigLIP2"
    """open_clip model (hub id ``hf-hub:…``, ``NAME/PRETRAINED`` or ``local-dir:PATH``) of the frame index. An
    encoder that belongs to the model goes before it, unless it is set."""
    encoder_device: str | None = None
    """Torch device; by default the first accelerator, else the CPU."""
    encoder_dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """``auto``: float16 on CUDA, bfloat16 on CPUs that have it in hardware, else float32."""
    encoder_batch_size: int = Field(default=16, ge=1)
    """Frames embedded at once."""
    offline: bool = False
    """Never ask a model hub; weights must be on disk."""
    index_fps: float = Field(default=1.0, gt=0)
    """Density of the grid of `clip_sample` candidates, in frames per second."""
    index_max_frames: int = Field(default=4096, ge=16)
    """Candidates in one range at the most; a longer range thins its grid by halving."""
    candidates: Literal["grid", "paper"] = "grid"
    """``grid``: a fixed grid in time. ``paper``: 128 evenly spaced frames of the range (256 above 20,000 frames)."""
    search_backend: Literal["auto", "exact", "hnsw"] = "auto"
    """How nearest frames are found."""
    min_gap_seconds: float = Field(default=0.0, ge=0)
    """Search results closer than this to a better one are left out."""
    warm_index: bool | None = None
    """Embed ahead while the model thinks; by default where weights are local and embedding is fast."""
