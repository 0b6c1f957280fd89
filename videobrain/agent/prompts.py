"""Every word that videobrain says to a model, as data.

A `PromptProfile` is a set of templates for `str.format`. Models that were trained on other words get a profile of
their own; the Episode and everything around it stay the same.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from videobrain.errors import ConfigurationError


class PromptProfile(BaseModel):
    """Templates of the conversation. The names in braces are what each template may use."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    system: str
    """First message: ``{tools}``, ``{form}``."""
    system_without_tools: str
    """First message where no tools are offered: ``{form}``."""
    form_tags: str
    form_tags_without_tools: str
    form_native: str
    form_native_without_tools: str
    question: str
    """Head of the user's turn: ``{question}``, ``{options}``, ``{answer_form}``, ``{frame_count}``, ``{fps}``,
    ``{duration}``, ``{shown}``."""
    options: str
    """``{options}``"""
    answer_open: str
    answer_choice: str
    """``{letters}``"""
    options_in_words: bool = False
    """Whether `answer_choice` asks for an option's words: a lone letter that is one option's text is then that one."""
    answer_schema: str
    """``{schema}``"""
    frame_label: str
    """Before each image: ``{frame_index}``, ``{timestamp}``."""
    observation: str
    """After a tool call: ``{tool}``, ``{text}``."""
    frames_follow: str
    """Native calling: text before the frames, in the user message after the tool message: ``{tool}``."""
    shown_before: str
    """``{frames}``"""
    frames_left_out: str
    """``{count}``, ``{reason}``"""
    turns_left: str
    """``{turns}``"""
    last_turn: str
    limit_reached: str
    """``{limit}``"""
    tool_failed: str
    """``{tool}``, ``{reason}``"""
    tool_withdrawn: str
    """``{tool}``"""
    correction: str
    """``{problem}``, ``{form}``"""


_FORM_TAGS = (
    "First think inside <thinking>...</thinking>: what do the frames show, and is it enough? "
    "Then write exactly one of these two:\n"
    '<tool_call>{"name": "TOOL", "arguments": {...}}</tool_call>\n'
    "<answer>YOUR ANSWER</answer>"
)
_FORM_TAGS_WITHOUT_TOOLS = (
    "First think inside <thinking>...</thinking>: what do the frames show? Then write <answer>YOUR ANSWER</answer>."
)
_FORM_NATIVE = "Either call exactly one tool, or write <answer>YOUR ANSWER</answer>."
_FORM_NATIVE_WITHOUT_TOOLS = "Write <answer>YOUR ANSWER</answer>."

DEFAULT = PromptProfile(
    name="default",
    system=(
        "You answer a question about a video. You are shown some of its frames; each has its frame number and time "
        "before it. If they are not enough, look at more frames with a tool before you answer; do not guess what a "
        "tool can show you, and do not look again for what you have seen.\n\n"
        "Tools:\n{tools}\n\n"
        "Choosing a tool: to follow what happens, to order, count or sum up, sample a range evenly first. To locate "
        "something or to check a fact, search for it first. Describe one thing per search, in a few words. Vary the "
        "range or the words from call to call.\n\n"
        "Form of each reply:\n{form}"
    ),
    system_without_tools=(
        "You answer a question about a video. You are shown some of its frames; each has its frame number and time "
        "before it.\n\nForm of your reply:\n{form}"
    ),
    form_tags=_FORM_TAGS,
    form_tags_without_tools=_FORM_TAGS_WITHOUT_TOOLS,
    form_native=_FORM_NATIVE,
    form_native_without_tools=_FORM_NATIVE_WITHOUT_TOOLS,
    question=(
        "Question: {question}\n{options}{answer_form}\n\n"
        "The video has {frame_count} frames at {fps} frames per second and lasts {duration} seconds. "
        "Shown here: {shown} of them.\n"
    ),
    options="Options:\n{options}\n",
    answer_open="Answer in a few words.",
    answer_choice="The answer is the letter of one option ({letters}) and nothing else.",
    answer_schema="The answer is JSON that fits this schema: {schema}",
    frame_label="\nFrame {frame_index} ({timestamp:.2f} s): ",
    observation="Result of {tool}: {text}",
    frames_follow="Frames of {tool}:",
    shown_before=" Shown above already: {frames}.",
    frames_left_out=" {count} more frames were left out: {reason}.",
    turns_left="\n\nReplies left: {turns}. Look further only where it helps; otherwise answer.",
    last_turn="\n\nThis is the last reply. No tool can be called any more: give your best answer now.",
    limit_reached="The call was not carried out: the limit of {limit} is reached.",
    tool_failed="{tool} failed: {reason}",
    tool_withdrawn=" {tool} cannot be used any more.",
    correction="That reply could not be used: {problem}. {form}",
)

COMPACT = DEFAULT.model_copy(
    update={
        "name": "compact",
        "system": "Answer a question about a video. Tools:\n{tools}\n{form}",
        "system_without_tools": "Answer a question about a video.\n{form}",
        "form_tags": '<thinking>...</thinking> then <tool_call>{"name": ..., "arguments": {...}}</tool_call> '
        "or <answer>...</answer>",
        "form_tags_without_tools": "<thinking>...</thinking> then <answer>...</answer>",
        "question": "{question}\n{options}{answer_form}\n{frame_count} frames, {fps} fps, {duration} s; {shown}:",
        "answer_open": "A few words.",
        "answer_choice": "One option in its own words.",
        "options_in_words": True,
        "frame_label": "\n{frame_index}: ",
        "turns_left": "\nReplies left: {turns}.",
        "last_turn": "\nLast reply: answer now.",
    }
)
"""Few words, for small models and small contexts. Frames have their number alone: the time follows from the rate."""

_PROFILES = {profile.name: profile for profile in (DEFAULT, COMPACT)}

_SPANS: Mapping[str, Mapping[str, str]] = {
    "default": {
        "system": (
            "You find when something happens in a video. You are shown some of its frames; each has its frame number "
            "and time before it. If they do not show when it begins and when it ends, look at more frames with a tool "
            "before you answer; do not guess what a tool can show you, and do not look again for what you have seen."
            "\n\nTools:\n{tools}\n\n"
            "Choosing a tool: to find it, search for it first, one thing in a few words. To see when it begins and "
            "ends, then sample the range around it evenly. Vary the range or the words from call to call. Tools take "
            "frame numbers; the answer is in seconds.\n\n"
            "Form of each reply:\n{form}"
        ),
        "system_without_tools": (
            "You find when something happens in a video. You are shown some of its frames; each has its frame number "
            "and time before it.\n\nForm of your reply:\n{form}"
        ),
        "question": DEFAULT.question.replace("Question:", "Query:"),
    },
    "compact": {
        "system": "Find when something happens in a video. Tools:\n{tools}\n{form}",
        "system_without_tools": "Find when something happens in a video.\n{form}",
        "frame_label": "\n{frame_index} ({timestamp:.2f} s): ",
    },
}
"""What is said in other words where the answer is spans. Every frame has its time, since that is what is asked for."""
_ANSWER_SPANS: Mapping[str, str] = {
    "default": (
        "When in the video is this to be seen? The answer is a JSON list of spans in seconds, [[START, END], ...], "
        "the surest first, at most {max_spans}; [] where it is not to be seen."
    ),
    "compact": "JSON list of spans in seconds, [[START, END], ...], surest first, at most {max_spans}; [] for none.",
}
"""Form of the answer that is spans: ``{max_spans}``."""


def prompt_profile(name: str, *, max_spans: int | None = None) -> PromptProfile:
    """A prompt profile by name.

    Args:
        name: Its name.
        max_spans: Take its words for an answer that is spans of time, so many at the most.

    Raises:
        ConfigurationError: There is none of this name.
    """
    try:
        profile = _PROFILES[name]
    except KeyError:
        raise ConfigurationError(
            f"There is no prompt profile {name!r}.", hint=f"Known profiles: {', '.join(sorted(_PROFILES))}."
        ) from None
    if max_spans is None:
        return profile
    answer = _ANSWER_SPANS[name].format(max_spans=max_spans)
    return profile.model_copy(update={**_SPANS[name], "name": f"{name}-spans", "answer_open": answer})
