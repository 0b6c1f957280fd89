"""The loop: grammar, prompts, Episode, runner, events, trace, strategies."""

from videobrain.agent.choices import parse_choice
from videobrain.agent.episode import Episode
from videobrain.agent.events import (
    EpisodeStarted,
    Event,
    Failed,
    Finished,
    FramesPlanned,
    LimitReached,
    MessageAdded,
    ReplyCorrected,
    ReplyDelta,
    ReplyReceived,
    RequestRetrying,
    RequestStarted,
    RunStarted,
    ToolFinished,
    ToolProgress,
    ToolStarted,
    WarningRaised,
)
from videobrain.agent.grammar import parse_reply, reply_pattern, violations
from videobrain.agent.plan import FramePlan, plan_frames
from videobrain.agent.prompts import PromptProfile, prompt_profile
from videobrain.agent.runner import Run, Strategy
from videobrain.agent.steps import (
    AskModel,
    CallTool,
    Conclusion,
    EpisodeConfig,
    Finish,
    Step,
    StopReason,
    ToolOutcome,
)
from videobrain.agent.strategies import (
    BlindStrategy,
    UniformStrategy,
    VideoBrainStrategy,
    offers_tools,
    resolve_strategy,
)
from videobrain.agent.subtitles import EpisodeSubtitles, SubtitlePrompts, subtitle_prompts
from videobrain.agent.trace import Trace

__all__ = [
    "AskModel",
    "BlindStrategy",
    "CallTool",
    "Conclusion",
    "Episode",
    "EpisodeConfig",
    "EpisodeStarted",
    "EpisodeSubtitles",
    "Event",
    "Failed",
    "Finish",
    "Finished",
    "FramePlan",
    "FramesPlanned",
    "LimitReached",
    "MessageAdded",
    "PromptProfile",
    "ReplyCorrected",
    "ReplyDelta",
    "ReplyReceived",
    "RequestRetrying",
    "RequestStarted",
    "Run",
    "RunStarted",
    "Step",
    "StopReason",
    "Strategy",
    "SubtitlePrompts",
    "ToolFinished",
    "ToolOutcome",
    "ToolProgress",
    "ToolStarted",
    "Trace",
    "UniformStrategy",
    "VideoBrainStrategy",
    "WarningRaised",
    "offers_tools",
    "parse_choice",
    "parse_reply",
    "plan_frames",
    "prompt_profile",
    "reply_pattern",
    "resolve_strategy",
    "subtitle_prompts",
    "violations",
]
