"""Subtitles in the conversation: beside the frames of their time, once, within their budget."""

from __future__ import annotations

import ast
import inspect
import json
import re
from string import Formatter
from typing import Any

from tests.agent.episodes import ANSWER, asked, call, config, ended, found, frames, native, say, started
from tests.agent.test_plan import plan
from videobrain.agent import AskModel, CallTool, Episode, EpisodeConfig, EpisodeSubtitles, Step, ToolOutcome
from videobrain.agent.prompts import COMPACT, DEFAULT
from videobrain.agent.subtitles import SubtitlePrompts, subtitle_prompts, tokens_of
from videobrain.models import ChatReply
from videobrain.tools import clip_sample, search_subtitles, uniform_sample
from videobrain.video import PlacedLine, Subtitles

TOOLS = (uniform_sample.spec, clip_sample.spec, search_subtitles.spec)


def line(start: int, end: int, text: str) -> PlacedLine:
    return PlacedLine(start, end, start / 25, end / 25, text)


def lines(*placed: PlacedLine, tokens: int = 1000, prompts: str = "default") -> EpisodeSubtitles:
    subtitles = Subtitles(source="match.srt", lines=placed)
    return EpisodeSubtitles(subtitles=subtitles, tokens=tokens, prompts=subtitle_prompts(prompts))


LINES = (
    line(0, 20, "Kick-off."),
    line(100, 200, "A long shot"),
    line(150, 160, "and a goal!"),
    line(500, 600, "Over."),
)


def with_lines(*placed: PlacedLine, tokens: int = 1000, **changes: Any) -> Episode:
    return started(subtitles=lines(*(placed or LINES), tokens=tokens), **{"tools": TOOLS, **changes})


def told(episode: Episode) -> str:
    return episode.messages[-1].text


def search(query: str = "goal") -> str:
    return call("search_subtitles", query=query)


def after_call(episode: Episode, text: str, outcome: ToolOutcome) -> Step:
    step = say(episode, text)
    assert isinstance(step, CallTool)
    return episode.observe(outcome)


# --- In the conversation ----------------------------------------------------------------------------------------------


def test_lines_follow_the_frames_of_their_time() -> None:
    episode = with_lines()
    said = [part.text if part.kind == "text" else f"<{part.frame.frame_index}>" for part in episode.messages[-1].parts]
    assert said[0].endswith(
        "Shown here: 2 of them.\n"
        "The video has subtitles, 4 lines. A line that stands while a frame is shown follows it, once.\n"
        "\nFrame 0 (0.00 s): "
    )
    assert said[1:4] == ["<0>", "\nSubtitles: Kick-off.\nFrame 500 (20.00 s): ", "<500>"]
    assert said[4].startswith("\nSubtitles: Over.\n\nReplies left: 6.")


def test_each_line_is_said_once() -> None:
    episode = with_lines()
    after_call(episode, call("uniform_sample", start_frame=0, end_frame=200), found(10, 155, 190))
    assert "Kick-off" not in told(episode)  # frame 0 has said it
    assert told(episode).count("\nSubtitles: A long shot / and a goal!") == 1
    after_call(episode, call("uniform_sample", start_frame=100, end_frame=300), found(110, 152, 290))
    assert "Subtitles:" not in told(episode)
    whole = "".join(message.text for message in episode.messages)
    assert all(whole.count(each.text) == 1 for each in LINES)


def test_found_lines_have_their_frame_and_time() -> None:
    episode = with_lines()
    after_call(episode, search(), ToolOutcome(kind="result", text="2 lines.", lines=(2, 1)))
    assert told(episode).startswith(
        "Result of search_subtitles: 2 lines.\nFrame 150 (6.00 s): and a goal!\nFrame 100 (4.00 s): A long shot"
    )
    step = after_call(episode, search("shot"), ToolOutcome(kind="result", text="3 lines.", lines=(1, 3, 0)))
    assert "3 lines. Said above already: what begins at frame 100, frame 500, frame 0.\n" in told(episode)
    assert isinstance(step, AskModel)
    after_call(episode, call("uniform_sample", start_frame=100, end_frame=200), found(155))
    assert "Subtitles:" not in told(episode)  # what a search has found is not said again


def test_lines_and_frames_of_one_tool() -> None:
    episode = with_lines()
    outcome = found(155).model_copy(update={"lines": (1,)})
    after_call(episode, search(), outcome)
    assert told(episode).startswith(
        "Result of search_subtitles: Frames.\nFrame 100 (4.00 s): A long shot\nFrame 155 (6.20 s): \nSubtitles: and a"
    )


def test_native_calls_get_their_lines_too() -> None:
    episode = with_lines(calling="native")
    episode.reply(native(("search_subtitles", '{"query": "goal"}')))
    episode.observe(ToolOutcome(kind="result", text="1 line.", lines=(2,)))
    assert episode.messages[-1].role == "tool"
    assert told(episode).startswith("Result of search_subtitles: 1 line.\nFrame 150 (6.00 s): and a goal!")
    episode.reply(native(("uniform_sample", '{"start_frame": 0, "end_frame": 200}')))
    episode.observe(found(155))
    assert [message.role for message in episode.messages[-2:]] == ["tool", "user"]
    assert "\nSubtitles: A long shot\n" in told(episode)


def test_the_compact_words() -> None:
    episode = started(subtitles=lines(*LINES, prompts="compact"), tools=TOOLS, prompts=COMPACT)
    assert "Subtitles (4 lines) follow their frames.\n0: \n= Kick-off.\n500: \n= Over.\n" in told(episode)
    after_call(episode, search(), ToolOutcome(kind="result", text="1 line.", lines=(2,)))
    assert told(episode).startswith("Result of search_subtitles: 1 line.\n150 = and a goal!")


def test_without_frames_and_tools_nothing_is_said_of_subtitles() -> None:
    episode = started(initial=(), subtitles=lines(*LINES), tools=())
    assert "ubtitles" not in "".join(message.text for message in episode.messages)


def test_a_constrained_reply_may_search() -> None:
    episode = with_lines(constrain=True)
    step = say(episode, "x")
    assert isinstance(step, AskModel)
    assert step.pattern
    pattern = re.compile(step.pattern)
    for arguments in (
        '{"query": "goal", "start_frame": 0, "end_frame": null}',
        '{"query": "goal", "start_frame": 7, "end_frame": 9}',
    ):
        body = f'{{"name": "search_subtitles", "arguments": {arguments}}}'
        assert pattern.fullmatch(f"<thinking>x</thinking>\n<tool_call>{body}</tool_call>")


# --- The budget -------------------------------------------------------------------------------------------------------


def test_no_more_is_said_than_the_budget_allows() -> None:
    many = [line(n, n + 1, f"This is line number {n:04d}.") for n in range(1000)]
    episode = with_lines(*many, tokens=200, initial=frames(*range(16)), limits={"turns": 20})
    for start in range(20, 100, 8):
        after_call(
            episode, call("uniform_sample", start_frame=start, end_frame=start + 8), found(*range(start, start + 8))
        )
    whole = "".join(message.text for message in episode.messages)
    said = re.findall(r"\nSubtitles: This is line number \d{4}\.", whole)
    assert 0.8 * 600 < sum(map(len, said)) <= 600  # three bytes to a token
    assert len(said) == len(set(said))
    first = episode.messages[1].text.count("Subtitles:")
    assert 1 <= first <= 150 // len(said[0])  # the first frames leave something for later
    after_call(episode, search(), ToolOutcome(kind="result", text="2 lines.", lines=(900, 901)))
    assert "2 more lines were left out: the run may show no more of the subtitles." in told(episode)
    finish = ended(say(episode, ANSWER))
    (warning,) = finish.conclusion.warnings
    assert re.fullmatch(r"\d\d lines of the subtitles were left out: the run may show no more of them\.", warning)


def test_what_fits_as_a_whole_is_not_rationed() -> None:
    many = [line(10 * n, 10 * n + 10, f"This is line {n}.") for n in range(10)]
    tokens = tokens_of(Subtitles(source="x", lines=tuple(many)))
    episode = with_lines(*many, tokens=tokens, initial=frames(*range(0, 90, 10)))
    assert told(episode).count("\nSubtitles:") == 9
    after_call(episode, search(), ToolOutcome(kind="result", text="1 line.", lines=(9,)))
    assert "\nFrame 90 (3.60 s): This is line 9." in told(episode)
    assert ended(say(episode, ANSWER)).conclusion.warnings == ()


def test_scarce_room_is_shared_fairly() -> None:
    many = [line(10 * n, 10 * n + 10, f"{n:02d} " + "x" * 47) for n in range(40)]
    episode = with_lines(*many, tokens=4 * 100, initial=frames(*range(0, 100, 10)))
    assert told(episode).count("\nSubtitles:") in (4, 5)  # 300 bytes for this message, 62 a line
    shown = [int(number) for number in re.findall(r"Subtitles: (\d\d) ", told(episode))]
    assert shown[0] <= 3  # spread over all frames
    assert shown[-1] >= 7


def test_a_line_that_fits_nowhere_is_left_out_and_found_by_nobody() -> None:
    episode = with_lines(line(0, 20, "x" * 5000), line(0, 20, "short"))
    assert "\nSubtitles: short\n" in told(episode)
    after_call(episode, search("x"), ToolOutcome(kind="result", text="1 line.", lines=(0,)))
    assert " 1 more lines were left out" in told(episode)
    assert ended(say(episode, ANSWER)).conclusion.warnings == (
        "1 line of the subtitles was left out: the run may show no more of them.",
    )


def test_a_small_context_gets_fewer_lines() -> None:
    assert plan(None, subtitle_tokens=4000).subtitle_tokens == 4000
    large = plan(100_000, subtitle_tokens=4000)
    assert (large.subtitle_tokens, large.reduced) == (4000, "")
    small = plan(8000, subtitle_tokens=4000)
    assert 0 < small.subtitle_tokens < 4000
    assert f"{small.subtitle_tokens} tokens of subtitles" in small.reduced
    without = plan(8000)
    assert small.frames * small.frame_tokens + small.subtitle_tokens <= 8000
    assert (without.frames, without.frame_tokens) != (small.frames, small.frame_tokens)
    assert "subtitle" not in without.model_dump_json()


def test_lines_count_in_the_context() -> None:
    """A call that frames alone would leave room for is refused where lines come with them."""
    facts: dict[str, Any] = {"context_tokens": 6000, "frame_tokens": 100, "limits": {"turns": 9}}
    text = call("uniform_sample", start_frame=0, end_frame=200)
    reply = ChatReply(text=text, input_tokens=4000, output_tokens=100)
    assert isinstance(with_lines(tokens=100, **facts).reply(reply), CallTool)
    refused = asked(with_lines(tokens=4000, **facts).reply(reply))
    assert refused.limit == "context"
    assert refused.last


def test_tokens_of_all_lines() -> None:
    assert tokens_of(Subtitles(source="x", lines=())) == 0
    assert tokens_of(Subtitles(source="x", lines=(line(0, 1, "é" * 14),))) == (28 + 32) / 3


# --- As data ----------------------------------------------------------------------------------------------------------


def test_a_config_with_lines_reads_back() -> None:
    made = config(subtitles=lines(*LINES), tools=TOOLS)
    again = EpisodeConfig.model_validate_json(made.model_dump_json())
    assert again == made
    assert again.subtitles is not None
    assert again.subtitles.subtitles.at(155) == [1, 2]
    outcome = ToolOutcome(kind="result", text="x", lines=(3, 1))
    assert ToolOutcome.model_validate_json(outcome.model_dump_json()) == outcome


def test_without_subtitles_nothing_is_written_of_them() -> None:
    for made in (config(), ToolOutcome(kind="result", text="x"), plan(32_000)):
        written = json.loads(made.model_dump_json())
        assert not {"subtitles", "lines", "subtitle_tokens"} & written.keys()
        assert type(made).model_validate(written) == made


def test_each_template_takes_exactly_its_fields() -> None:
    (body,) = [node for node in ast.parse(inspect.getsource(SubtitlePrompts)).body if isinstance(node, ast.ClassDef)]
    for node, after in zip(body.body, [*body.body[1:], None], strict=True):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name) or node.target.id == "name":
            continue
        described = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        fields = set(re.findall(r"``{(\w+)}``", after.value.value if described else ""))  # type: ignore[union-attr]
        for name in ("default", "compact"):
            template = getattr(subtitle_prompts(name), node.target.id)
            used = {field for _, field, _, _ in Formatter().parse(template) if field is not None}
            assert used <= fields, node.target.id
            if name == "default":
                assert used == fields, node.target.id


def test_every_prompt_profile_has_words_for_subtitles() -> None:
    assert subtitle_prompts(DEFAULT.name).name == "default"
    assert subtitle_prompts(COMPACT.name).name == "compact"
    assert subtitle_prompts("of somebody else").name == "default"
