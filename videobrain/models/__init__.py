"""Who thinks: the ChatModel protocol and its implementations."""

from __future__ import annotations

from videobrain.models.cached import CachedModel
from videobrain.models.messages import (
    ChatReply,
    ChatRequest,
    FinishReason,
    ImagePart,
    Message,
    ModelEvent,
    NativeToolCall,
    Part,
    RequestRetried,
    TextDelta,
    TextPart,
    ToolSchema,
)
from videobrain.models.openai import OpenAIModel
from videobrain.models.profiles import profile_for
from videobrain.models.protocol import ChatModel, ModelCapacity, ModelProfile
from videobrain.models.resolve import resolve_model

__all__ = [
    "CachedModel",
    "ChatModel",
    "ChatReply",
    "ChatRequest",
    "FinishReason",
    "ImagePart",
    "Message",
    "ModelCapacity",
    "ModelEvent",
    "ModelProfile",
    "NativeToolCall",
    "OpenAIModel",
    "Part",
    "RequestRetried",
    "TextDelta",
    "TextPart",
    "ToolSchema",
    "profile_for",
    "resolve_model",
]
