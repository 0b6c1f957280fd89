"""The tiny model: its tokens, its loss, its oracle, and that it trains, goes on after a kill, and loads."""

from __future__ import annotations

import io
import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from videobrain import VideoBrain
from videobrain.agent import Episode
from videobrain.models import ChatRequest, ModelProfile
from videobrain.models.local import LocalModel
from videobrain.testing import ScriptedModel
from videobrain.training.tiny import trainer
from videobrain.training.tiny.examples import ExampleMaker
from videobrain.training.tiny.frames import decoded, encoded
from videobrain.training.tiny.model import (
    FRAME_TOKENS,
    TinyShape,
    collate,
    fit_frame,
    make_tiny_model,
    parameters,
    patches,
    save_tiny_model,
    see,
    trained_logits,
)
from videobrain.training.tiny.oracle import notes, play, play_model
from videobrain.training.tiny.tokenizer import CONTEXT_TOKENS, fixed_phrases, make_tiny_processor
from videobrain.training.tiny.trainer import VlmStage, _rate, load_weights, token_kinds, train_stage
from videobrain.training.tokens import ConversationTokenizer
from videobrain.video import EncodedFrame, evenly_spaced
from videobrain.video.frame import Frame
from videobrain.world import WORDS, World

SMALL = TinyShape(text_hidden=64, text_layers=1, text_heads=2, text_key_heads=1, text_inner=64, vision_hidden=32)
NAMES = ("copying", "judging", "conclusions", "captions", "lookup", "trajectories", "refining")


@pytest.fixture(scope="module")
def processor() -> Any:
    return make_tiny_processor()


def finished(
    number: int, seed: int = 0, *, single_shot: int | None = None, hard: bool = False
) -> tuple[World, Episode]:
    world, rng = World(seed), random.Random(seed)

    def look(indices: Any) -> list[EncodedFrame]:
        return [EncodedFrame.encode(Frame(index, index / 10, world.draw(index))) for index in indices]

    return world, play(world, world.questions[number], look, rng, single_shot=single_shot, hard=hard)


# Tokens ----------------------------------------------------------------------------------------------------------


def test_words_pairs_of_digits_and_tools_are_single_tokens(processor: Any) -> None:
    def tokens(text: str) -> list[str]:
        return processor.tokenizer.tokenize(text)  # type: ignore[no-any-return]

    split = {word for word in WORDS if len(tokens(word)) > 1 or len(tokens(f" {word}")) > 1}
    assert not split
    assert all(len(tokens(phrase)) == 1 for phrase in fixed_phrases())
    assert tokens("\n1532: ")[1:3] == ["15", "32"]
    assert tokens("\n10807: ")[1:4] == ["10", "80", "7"]
    assert tokens("<thinking></answer>") == ["<thinking>", "</answer>"]
    assert set(token_kinds(processor.tokenizer).values()) == {"colour", "shape", "pattern", "letter", "nothing"}


def test_the_system_prompt_is_short(processor: Any) -> None:
    """It would be 200 tokens if the tools' descriptions were spelt out; their words must match to the letter."""
    _, episode = finished(0)
    text = processor.apply_chat_template(
        [{"role": "system", "content": episode.messages[0].text}], tokenize=False, add_generation_prompt=False
    )
    assert len(processor.tokenizer.encode(text)) < 25


def test_any_text_can_be_written(processor: Any) -> None:
    text = "Wie viele Äpfel liegen (12,5 %) auf dem Tisch? 🍎"
    assert processor.tokenizer.decode(processor.tokenizer.encode(text)) == text


# The oracle ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_the_oracle_answers_rightly_by_the_rules(seed: int) -> None:
    for number in range(6):
        world, episode = finished(number, seed)
        question = world.questions[number]
        assert episode.violations() == []
        calls = episode.usage.tool_calls
        assert (sum(calls.values()) == 0) == (question.kind == "direct")
        answer = episode.replies[-1].partition("<answer>")[2].removesuffix("</answer>")
        assert question.accepts(answer)


def test_the_oracle_searches_again_where_a_search_missed() -> None:
    runs = [finished(number, seed)[1] for seed in range(20) for number in (2, 3)]
    calls = [run.usage.tool_calls.get("clip_sample", 0) for run in runs]
    assert calls.count(2) >= 2
    assert calls.count(1) > 3 * calls.count(2)


def test_the_oracle_answers_after_two_searches_that_found_nothing() -> None:
    """As a real search may find nothing, or the same again: a third one is never made."""
    again = 0
    for seed in range(24):
        world, episode = finished(2, seed, hard=True)
        assert world.questions[2].kind == "search"
        assert episode.usage.turns <= 3
        first, last = episode.replies[0], episode.replies[-1]
        if len(episode.replies) == 3 and "Not seen." in last:
            assert f"<answer>{world.questions[2].answer}</answer>" in last
            assert "clip_sample" in first
            found = [message.frames for message in episode.messages[-4:] if message.role == "user"]
            again += not found[1]
    assert again


@pytest.mark.parametrize("frames", [8, 64])
def test_single_shots_have_no_tools(frames: int) -> None:
    for number in range(6):
        _, episode = finished(number, single_shot=frames)
        assert len(episode.replies) == 1
        assert episode.usage.frames == frames
        assert "uniform_sample" not in episode.messages[0].text


def test_notes_count_while_they_read() -> None:
    world = World(0)
    (counted,) = [question for question in world.questions if question.template == "count_of"]
    arguments = counted.calls[0].arguments
    inside = range(int(arguments["start_frame"]), int(arguments["end_frame"]))
    values = [note for _, note in notes(world, counted, [0, *inside])]
    assert len(values) == len(inside)
    subject = world.subject(counted).partition(" ")[2]
    counts = [value.rpartition(" ")[2] for value in values if value[-1].isdigit() and subject in value]
    assert counts[-1] == counted.answer
    assert counts == sorted(counts)
    assert all(value[-1].isdigit() for value in values if subject in value)


def test_notes_number_flashes_where_one_of_them_is_asked_for() -> None:
    world, question = next(
        (world, question)
        for world in map(World, range(50))
        for question in world.questions
        if question.template == "screen_nth"
    )
    arguments = question.calls[0].arguments
    frames = evenly_spaced(int(arguments["start_frame"]), int(arguments["end_frame"]), 8)
    noted = [note for _, note in notes(world, question, frames) if note != "nothing"]
    assert list(dict.fromkeys(note.split()[1] for note in noted)) == ["first", "second", "third"]
    (asked,) = re.findall(r"\b(?:first|second|third)\b", question.question)
    assert f"{question.answer} {asked}" in noted
    assert world.conclusion(question, question.answer) == f"{asked} {question.answer}"


def test_notes_end_with_the_frame_that_shows_what_is_looked_for() -> None:
    for world in map(World, range(4)):
        for question in world.questions:
            if question.kind != "dense" and question.template != "background_at":
                noted = notes(world, question, world.grid_frames)
                told = next(frame for frame in world.grid_frames if world.answer_from(question, [frame]))
                assert [frame for frame, note in noted if note.endswith(" yes")] == [noted[-1][0]] == [told]
                assert [frame for frame, _ in noted] == [frame for frame in world.grid_frames if frame <= told]


def test_questions_about_stills_are_answered_or_searched_for(processor: Any) -> None:
    maker = ExampleMaker(processor)
    rng = random.Random(0)
    replies = []
    for _ in range(200):
        example = maker.search(rng, rng.choice((2, 4, 8)), [1, 2, 3])
        replies.append(processor.tokenizer.decode(example.input_ids[example.sampled]))
    called = [reply for reply in replies if "clip_sample" in reply]
    answered = [reply for reply in replies if "<answer>" in reply]
    assert len(called) + len(answered) == 200
    assert 50 < len(called) < 150
    assert all("Not seen." in reply and " yes" not in reply for reply in called)
    for reply in answered:
        answer = reply.partition("<answer>")[2].partition("</answer>")[0]
        assert re.search(rf" So (\w+ )?{answer}\.", reply)


@pytest.mark.anyio
async def test_a_model_that_says_what_the_oracle_says_comes_to_the_same_answer() -> None:
    for number in (0, 2, 4):
        world, episode = finished(number, 2)  # whose search hits at once
        question = world.questions[number]
        model = ScriptedModel(episode.replies)

        def look(indices: Any, world: World = world) -> list[EncodedFrame]:
            return [EncodedFrame.encode(Frame(index, index / 10, world.draw(index))) for index in indices]

        played = await play_model(model, world, question, look)
        assert played.replies == episode.replies
        assert played.usage.tool_calls == episode.usage.tool_calls
        found = [frame.frame_index for frame in played.messages[-2].frames]
        assert world.answer_from(question, found) == question.answer


@pytest.mark.anyio
async def test_training_sees_what_a_run_on_the_file_sees(tmp_path: Path) -> None:
    """The oracle's conversation, word for word and frame for frame, against `VideoBrain` on the written video."""
    world, episode = finished(4, 2)
    question = world.questions[4]
    model = ScriptedModel(episode.replies, profile=ModelProfile(prompts="compact"), max_model_len=CONTEXT_TOKENS)
    async with VideoBrain(model) as brain:
        answer = await brain.ask(world.write(tmp_path / "video.mp4"), question.question, options=question.options)
    assert question.accepts(answer.choice or answer.text)
    real, ours = model.requests[-1].messages, episode.messages[:-1]
    assert [message.text for message in real] == [message.text for message in ours]
    for one, other in zip(real, ours, strict=True):
        assert [frame.frame_index for frame in one.frames] == [frame.frame_index for frame in other.frames]
        for frame, drawn in zip(one.frames, other.frames, strict=True):
            assert np.abs(fit_frame(decoded(frame)).astype(int) - fit_frame(decoded(drawn))).mean() < 6


# The model -------------------------------------------------------------------------------------------------------


def test_sizes(processor: Any) -> None:
    model = make_tiny_model(processor)
    assert parameters(model) <= 12_000_000
    assert model.config.text_config.vocab_size == len(processor.tokenizer)
    assert model.config.text_config.head_dim in (32, 64)
    vision = model.config.vision_config
    assert vision.hidden_size // vision.num_heads in (32, 64)


def test_frames_are_cut_as_the_processor_cuts_them(processor: Any) -> None:
    jpegs = [encoded(World(1).frame_at(seconds), random.Random(0)) for seconds in (0, 30, 60)]
    pictures = [Image.open(io.BytesIO(frame.jpeg)).convert("RGB") for frame in jpegs]
    theirs = processor.image_processor(images=pictures, return_tensors="pt")["pixel_values"]
    ours = patches(torch.from_numpy(np.stack([fit_frame(decoded(frame)) for frame in jpegs])))
    torch.testing.assert_close(ours, theirs, atol=0.02, rtol=0)


def test_logits_are_the_models_own(processor: Any) -> None:
    """Positions, image places and masks: three sequences of different lengths against transformers, one by one."""
    model = make_tiny_model(processor, seed=3).eval()
    maker = ExampleMaker(processor)
    examples = [maker.of_episode(finished(number)[1]) for number in (0, 2, 4)]
    batch = maker.batch(examples)
    theirs = []
    with torch.no_grad():
        logits, truth = trained_logits(model, batch)
        frames = iter(batch.frames.split([len(example.frames) for example in examples]))
        for example in examples:
            ids = torch.from_numpy(example.input_ids)[None]
            pixels = patches(next(frames))
            said = model(
                input_ids=ids,
                pixel_values=pixels,
                image_grid_thw=torch.tensor([[1, 8, 8]] * len(example.frames)),
                mm_token_type_ids=(ids == maker.image_token).int(),
            ).logits[0, :-1]
            theirs.append(said[torch.from_numpy(example.sampled[1:])])
        seen = see(model, batch.frames[:5])
        tower = model.model.visual(patches(batch.frames[:5]), grid_thw=torch.tensor([[1, 8, 8]] * 5)).pooler_output
    torch.testing.assert_close(logits, torch.cat(theirs), atol=1e-4, rtol=1e-4)
    assert truth.tolist() == [token for each in examples for token in each.input_ids[each.sampled]]
    torch.testing.assert_close(seen, tower, atol=1e-4, rtol=1e-3)
    assert len(seen) == 5 * FRAME_TOKENS


def test_gradients_are_the_models_own(processor: Any) -> None:
    model = make_tiny_model(processor, SMALL)
    maker = ExampleMaker(processor)
    example = maker.of_episode(finished(2)[1])

    def gradients() -> dict[str, torch.Tensor]:
        found = {name: weights.grad for name, weights in model.named_parameters() if weights.grad is not None}
        model.zero_grad()
        return found

    batch = maker.batch([example])
    torch.nn.functional.cross_entropy(*trained_logits(model, batch)).backward()
    ours = gradients()
    ids = torch.from_numpy(example.input_ids)[None]
    model(
        input_ids=ids,
        labels=ids.where(torch.from_numpy(example.sampled), -100),
        pixel_values=patches(batch.frames),
        image_grid_thw=torch.tensor([[1, 8, 8]] * len(batch.frames)),
        mm_token_type_ids=(ids == maker.image_token).int(),
    ).loss.backward()
    theirs = gradients()
    assert ours.keys() == theirs.keys() == dict(model.named_parameters()).keys()
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, atol=1e-5, rtol=1e-3, msg=name)


def test_a_token_attends_to_its_like_from_the_start(processor: Any) -> None:
    """Words that stand there twice: the first layer's heads that begin with their key's weights look back there."""
    model = make_tiny_model(processor).eval()
    model.set_attn_implementation("eager")
    words = torch.arange(20, 50)
    seen = model(input_ids=torch.cat([words, words])[None], output_attentions=True).attentions[0][0]
    back = seen[::2, torch.arange(30, 60), torch.arange(30)].mean()
    assert back > 2 * seen[1::2, torch.arange(30, 60), torch.arange(30)].mean()


def test_sequences_of_a_batch_know_nothing_of_each_other(processor: Any) -> None:
    model = make_tiny_model(processor, SMALL).eval()
    maker = ExampleMaker(processor)
    short, long = (maker.of_episode(finished(number)[1]) for number in (0, 2))
    alone, _ = trained_logits(model, maker.batch([short]))
    beside, _ = trained_logits(model, maker.batch([short, long]))
    last, _ = trained_logits(model, maker.batch([long, short]))
    torch.testing.assert_close(beside[: len(alone)], alone, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(last[-len(alone) :], alone, atol=1e-4, rtol=1e-4)


def test_a_sequence_of_which_nothing_is_trained_is_left_out(processor: Any) -> None:
    model = make_tiny_model(processor, SMALL).eval()
    told = (np.arange(5, 9), np.array([False, True, False, True]))
    silent = (np.arange(9, 12), np.zeros(3, dtype=bool))
    alone, _ = trained_logits(model, collate([told], [], image_token=1))
    beside, truth = trained_logits(model, collate([silent, told], [], image_token=1))
    assert truth.tolist() == [6, 8]
    torch.testing.assert_close(beside, alone)


# Training --------------------------------------------------------------------------------------------------------


def test_a_sequence_without_frames_can_be_a_batch(processor: Any) -> None:
    model = make_tiny_model(processor, SMALL)
    sequence = (np.array([5, 6, 7]), np.array([False, True, True]))
    logits, truth = trained_logits(model, collate([sequence], [], image_token=1))
    assert logits.shape == (2, len(processor.tokenizer))
    assert truth.tolist() == [6, 7]


@pytest.mark.anyio
async def test_stages_build_on_each_other(processor: Any, tmp_path: Path) -> None:
    """A few steps of each stage; the result is a model like any other, given the very tokens it was trained on."""
    stages = tuple(VlmStage(name, steps=3, frames=16) for name in NAMES)
    lines: list[dict[str, Any]] = []
    weights = None
    for _ in range(2):  # the second time at once
        for stage in stages:
            weights = train_stage(
                stage, tmp_path / stage.name, start=weights, shape=SMALL, workers=0, progress=lines.append
            )
    assert [line["stage"] for line in lines] == [stage.name for stage in stages]
    assert {"loss", "accuracy", "steps_per_second"} <= lines[0].keys()
    trained = make_tiny_model(processor, SMALL)
    load_weights(trained, tmp_path / "trajectories" / "weights.safetensors")
    target = save_tiny_model(trained, processor, tmp_path / "model")
    model = LocalModel(str(target))
    _, episode = finished(2)
    tokens = ConversationTokenizer(make_tiny_processor())(episode.messages)
    prompt = tokens.sampled.index(True)
    reply = await model.complete(ChatRequest(messages=tuple(episode.messages[:2]), max_output_tokens=4, temperature=0))
    await model.aclose()
    assert reply.input_tokens == prompt
    weights_bytes = 2 * parameters(trained)
    assert weights_bytes < (target / "model.safetensors").stat().st_size < weights_bytes + 20_000


def test_a_killed_training_goes_on_as_if_it_had_not_been(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = VlmStage("captions", steps=6, frames=16)
    options: dict[str, Any] = {"shape": SMALL, "workers": 0, "report_steps": 1}
    whole = train_stage(stage, tmp_path / "whole", **options)

    class Killed(Exception):
        pass

    def kill(line: dict[str, Any]) -> None:
        if line["step"] == 4:
            raise Killed

    with pytest.raises(Killed):
        train_stage(stage, tmp_path / "killed", checkpoint_seconds=0, progress=kill, **options)
    resumed: list[dict[str, Any]] = []
    killed = train_stage(stage, tmp_path / "killed", progress=resumed.append, **options)
    assert [line["step"] for line in resumed] == [4, 5, 6]
    logs = [
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text("utf-8").splitlines()]
        for name in ("whole", "killed")
    ]
    assert [[line["step"] for line in log] for log in logs] == [list(range(7))] * 2
    assert logs[0][-1]["loss"] == pytest.approx(logs[1][-1]["loss"], abs=0.02)
    assert killed.stat().st_size == whole.stat().st_size
    assert not (tmp_path / "killed" / "checkpoint").exists()


@pytest.mark.parametrize(("enough", "steps"), [(0.0, 2), (1.1, 6)])
def test_what_all_else_is_built_on_is_trained_until_it_is_there(tmp_path: Path, enough: float, steps: int) -> None:
    stage = VlmStage("copying", steps=2, frames=2, enough=enough, rounds=3)
    lines: list[dict[str, Any]] = []
    train_stage(stage, tmp_path, shape=SMALL, workers=0, progress=lines.append)
    assert [line["step"] for line in lines] == list(range(2, steps + 1, 2))  # each round ends with a report
    assert [_rate(stage, step) for step in range(2)] == [_rate(stage, step) for step in (4, 5)]
    assert [stage.end_of_round(step) for step in (1, 2, 3)] == [2, 2, 4]


def test_it_learns(tmp_path: Path) -> None:
    """Forty small steps: the loss falls well below that of the words' frequencies alone."""
    lines: list[dict[str, Any]] = []
    stage = VlmStage("captions", steps=40, frames=24, learning_rate=3e-3)
    train_stage(stage, tmp_path, shape=SMALL, workers=0, report_steps=20, progress=lines.append)
    assert lines[-1]["loss"] < 0.75 * lines[0]["loss"]


def test_the_curriculum_goes_from_copying_to_trajectories() -> None:
    assert [stage.name for stage in trainer.CURRICULUM] == list(NAMES)


def test_saving_leaves_the_model_in_float32(processor: Any, tmp_path: Path) -> None:
    model = make_tiny_model(processor, SMALL)
    save_tiny_model(model, processor, tmp_path)
    assert model.dtype == torch.float32
    assert json.loads((tmp_path / "config.json").read_text("utf-8"))["dtype"] == "bfloat16"
