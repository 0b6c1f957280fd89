"""The oracle: plays questions of the synthetic world by the rules of the protocol, knowing the truth.

It looks before it speaks: its thinking says what is looked for, what each frame shows, and a conclusion. So a small
model need not see sixteen frames at once; it looks at one after the other and reads what it has written.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from videobrain.agent import AskModel, CallTool, Episode, EpisodeConfig, Finish
from videobrain.agent.prompts import COMPACT
from videobrain.agent.steps import ToolOutcome
from videobrain.limits import Limits
from videobrain.models import ChatModel, ChatReply, ChatRequest
from videobrain.tools import ToolSpec
from videobrain.tools.sampling import CLIP_FRAMES, UNIFORM_FRAMES
from videobrain.training.tiny.tokenizer import CONTEXT_TOKENS, TOOLS
from videobrain.video import EncodedFrame, evenly_spaced
from videobrain.world import FPS, FrameState, World, WorldQuestion, caption, prompts
from videobrain.world.vocabulary import ORDINALS

Look = Callable[[Sequence[int]], list[EncodedFrame]]
"""Frames of the video by number."""

_MISSES, _HARD_MISSES = 0.2, 0.4
"""Share of searches that find nothing of use at first. In half of the hard ones the second search finds nothing either,
and in half of those it finds the same again: then it is time to answer."""
YES = "yes"
"""Said of a frame that shows what is looked for."""
_NOTHING = "nothing"
INITIAL_FRAMES = 16
"""Frames that a run begins with."""


def play(
    world: World,
    question: WorldQuestion,
    look: Look,
    rng: random.Random,
    *,
    single_shot: int | None = None,
    initial: Sequence[int] | None = None,
    hard: bool = False,
) -> Episode:
    """A finished episode.

    Args:
        world: The video.
        question: One of its questions.
        look: Gives frames.
        rng: Chance: which searches miss, and what else they find.
        single_shot: So many frames at once and no tools; None for the whole protocol.
        initial: Frames to begin with in the place of those.
        hard: Searches miss more often, and twice.
    """
    episode = begin(world, question, single_shot=single_shot)
    oracle = _Oracle(world, question, rng, tools=single_shot is None, hard=hard)
    frames = list(initial or initial_frames(world, single_shot))
    step = episode.start(look(frames))
    while not isinstance(step, Finish):
        match step:
            case AskModel():
                step = episode.reply(ChatReply(text=oracle.reply(frames)))
            case CallTool(name=name, arguments=arguments):
                frames, text = oracle.sample(name, arguments)
                step = episode.observe(ToolOutcome(kind="result", text=text, frames=tuple(look(frames))))
    if episode.violations():
        raise RuntimeError(f"the oracle broke the rules on {question.key}: {episode.violations()}")
    return episode


async def play_model(
    model: ChatModel, world: World, question: WorldQuestion, look: Look, *, single_shot: int | None = None
) -> Episode:
    """A model's own episode, with a search that finds just what it is asked for: how far the model alone leads.

    Args:
        model: The model.
        world: The video.
        question: One of its questions.
        look: Gives frames.
        single_shot: So many frames at once and no tools; None for the whole protocol.
    """
    episode = begin(world, question, single_shot=single_shot)
    step = episode.start(look(initial_frames(world, single_shot)))
    while not isinstance(step, Finish):
        match step:
            case AskModel(max_output_tokens=room):
                request = ChatRequest(messages=tuple(episode.messages), max_output_tokens=room, temperature=0.0)
                step = episode.reply(await model.complete(request))
            case CallTool(name=name, arguments=arguments):
                start, end = max(0, arguments["start_frame"]), min(world.frame_count, arguments["end_frame"])
                if name == "uniform_sample":
                    frames, text = _uniform(start, end)
                else:
                    prompt = arguments["prompt"]
                    within = [frame for frame in world.grid_frames if start <= frame < end]
                    best = sorted(within, key=lambda frame: prompt not in prompts(world.state(frame)))[:CLIP_FRAMES]
                    frames, text = sorted(best), found_text(len(best), start, end, prompt)
                step = episode.observe(ToolOutcome(kind="result", text=text, frames=tuple(look(frames))))
    return episode


def initial_frames(world: World, single_shot: int | None = None) -> list[int]:
    """The frames that a run begins with."""
    return evenly_spaced(0, world.frame_count, single_shot or INITIAL_FRAMES)


def begin(world: World, question: WorldQuestion, *, single_shot: int | None = None) -> Episode:
    """An episode as a run on the video's file begins it, not yet started."""
    tools = TOOLS if single_shot is None else ()
    return new_episode(question.question, question.options, world.frame_count, tools)


def new_episode(
    question: str, options: Sequence[str] | None, frame_count: int, tools: Sequence[ToolSpec] = TOOLS
) -> Episode:
    """An episode as the tiny model is asked, in a single shot where there are no tools."""
    return Episode(
        EpisodeConfig(
            question=question,
            options=options,
            frame_count=frame_count,
            fps=FPS,
            duration_seconds=frame_count / FPS,
            tools=tools,
            limits=Limits() if tools else Limits(turns=1),
            prompts=COMPACT,
            context_tokens=CONTEXT_TOKENS,
            frame_tokens=32,
        )
    )


class _Oracle:
    def __init__(self, world: World, question: WorldQuestion, rng: random.Random, *, tools: bool, hard: bool) -> None:
        self._world = world
        self._question = question
        self._rng = rng
        self._tools = tools
        self._calls = 0
        missing = question.kind == "search" and rng.random() < (_HARD_MISSES if hard else _MISSES)
        self._misses = missing + (missing and hard and rng.random() < 0.5)
        self._missed: list[int] = []

    def reply(self, frames: Sequence[int]) -> str:
        """The next reply, to these new frames."""
        question = self._question
        if question.kind == "dense" and self._tools and self._calls == 0:
            return call("Look closer.", "uniform_sample", question.calls[0].arguments)
        known = self._world.answer_from(question, frames) == question.answer
        conclusion = self._world.conclusion(question, question.answer) if known else None
        # Said before each list, it would only recall the first one; the tool's result says it anyway.
        subject = "" if question.kind == "search" and self._calls else self._world.subject(question)
        thinking = think(subject, notes(self._world, question, frames), conclusion)
        if not known and question.kind == "search" and self._tools and self._calls < 2:
            arguments = dict(question.calls[0].arguments)
            if self._calls:  # the same words again would be no use, and are forbidden
                arguments["prompt"] = str(arguments["prompt"]).partition(" ")[2]
            return call(thinking, "clip_sample", arguments)
        return answer(thinking, question.answer)

    def sample(self, name: str, arguments: Mapping[str, Any]) -> tuple[list[int], str]:
        """What a tool gives: frames and words, as the real one words it."""
        self._calls += 1
        start, end = arguments["start_frame"], arguments["end_frame"]
        if name == "uniform_sample":
            return _uniform(start, end)
        frames = self._missed if self._finds_the_same else self._found(CLIP_FRAMES)
        if self._calls <= self._misses:
            self._missed = frames
        return frames, found_text(len(frames), start, end, arguments["prompt"])

    @property
    def _finds_the_same(self) -> bool:
        return 1 < self._calls <= self._misses and self._rng.random() < 0.5

    def _found(self, count: int) -> list[int]:
        """What a search by similarity finds: the event, and frames that resemble it."""
        grid = self._world.grid_frames
        spans = self._question.spans
        event = [frame for frame in grid if any(a <= frame / 10 < b for a, b in spans)]
        others = [frame for frame in grid if frame not in event]
        if self._calls <= self._misses:
            event = []
        hits = self._rng.sample(event, k=min(count, len(event)))
        wanted = {word for frame in event or grid[:1] for word in _words(self._world.state(frame))}
        some = self._rng.sample(others, k=min(len(others), 40))
        some.sort(key=lambda frame: -len(wanted & _words(self._world.state(frame))))
        near = some if self._rng.random() < 0.7 else self._rng.sample(others, k=min(len(others), count))
        return sorted([*hits, *near[: count - len(hits)]])


def think(subject: str, noted: Sequence[tuple[int, str]], conclusion: str | None) -> str:
    """What is looked for, what each frame shows, and what follows; None where nothing does.

    What was asked about is said again before the answer: then it is clear which of two things is meant, and a model
    that is about to say its shape has only to look for what came after its colour.
    """
    listed = ", ".join(f"{frame} {note}" for frame, note in noted)
    if subject and listed:  # said again, what is asked stands next to what is read
        listed = f"{asked(subject)} {listed}"
    end = "Not seen." if conclusion is None else f"So {conclusion}."
    return f"{listed}. {end}" if listed else end


def asked(subject: str) -> str:
    """What is looked for, as thinking begins with it."""
    return f"{subject[0].upper()}{subject[1:]}?"


def call(thinking: str, name: str, arguments: Mapping[str, Any]) -> str:
    """A reply that calls a tool."""
    written = json.dumps({"name": name, "arguments": dict(arguments)})
    return f"<thinking>{thinking}</thinking>\n<tool_call>{written}</tool_call>"


def answer(thinking: str, text: str) -> str:
    """A reply that answers."""
    return f"<thinking>{thinking}</thinking>\n<answer>{text}</answer>"


def notes(world: World, question: WorldQuestion, frames: Sequence[int]) -> list[tuple[int, str]]:
    """What the thinking says of each frame that matters.

    All that the frame shows, whatever is looked for: to read is one skill, to pick from what is read another one, and
    each is learnt sooner than both at once. Of a sequence only its sights, with their numbers.
    """
    if question.template == "background_at":
        return [(frame, caption(world.state(frame))) for frame in frames if world.answer_from(question, [frame])]
    if question.kind != "dense":
        states = [(frame, world.state(frame)) for frame in frames]
        return noted_until(states, lambda frame: world.answer_from(question, [frame]) is not None)
    look = question.calls[0].arguments
    inside = [frame for frame in frames if int(look["start_frame"]) <= frame < int(look["end_frame"])]
    states = [(frame, world.state(frame)) for frame in inside]
    if question.template == "count_of":
        return _counted(world.subject(question), states)
    if question.template == "shape_order":
        return in_order([(frame, state.things[0].shape if state.things else None) for frame, state in states])
    return in_order([(frame, state.screen) for frame, state in states])


def noted_until(seen: Sequence[tuple[int, FrameState]], tells: Callable[[int], bool]) -> list[tuple[int, str]]:
    """What is said of frames up to the first one that shows what is looked for, after which stands ``yes``.

    So what is concluded stands right behind what it follows from.
    """
    noted: list[tuple[int, str]] = []
    for frame, state in seen:
        told = tells(frame)
        noted.append((frame, f"{content(state)} {YES}" if told else content(state)))
        if told:
            break
    return noted


def content(state: FrameState) -> str:
    """What a frame shows, without its background: its caption's words."""
    return caption(state).partition(" on ")[0]


def in_order(sights: Sequence[tuple[int, str | None]]) -> list[tuple[int, str]]:
    """Which one in the order each sight is: ``red first, nothing, blue second, blue second``."""
    found: list[tuple[int, str]] = []
    number, before = -1, None
    for frame, sight in sights:
        number += sight not in (None, before)
        found.append((frame, f"{sight} {ORDINALS[min(number, len(ORDINALS) - 1)]}" if sight else _NOTHING))
        before = sight
    return found


def _counted(subject: str, states: Sequence[tuple[int, FrameState]]) -> list[tuple[int, str]]:
    thing = subject.partition(" ")[2]
    found: list[tuple[int, str]] = []
    count, before = 0, False
    for frame, state in states:
        there = thing in map(str, state.things)
        count += there and not before
        found.append((frame, f"{content(state)} {count}" if there else content(state)))
        before = there
    return found


def _uniform(start: int, end: int) -> tuple[list[int], str]:
    frames = evenly_spaced(start, end, UNIFORM_FRAMES)
    return frames, f"{len(frames)} frames evenly spaced from frame {start} to {end}."


def found_text(count: int, start: int, end: int, prompt: str) -> str:
    """What a search says that it found."""
    return f"{count} frames from frame {start} to {end} that best match {prompt!r}, in time order."


def _words(state: FrameState) -> set[str]:
    """What makes frames resemble each other."""
    if state.screen:
        return {state.screen}
    return {word for thing in state.things for word in thing} | {glyph.noun for glyph in state.glyphs}
