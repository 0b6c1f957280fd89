"""The tiny encoder: what is true of a picture, a training in seconds, and the real path that measures it."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from videobrain.index import OpenClipEncoder
from videobrain.settings import Settings
from videobrain.training.tiny.encoder import Recipe, learning_rate, train_encoder
from videobrain.training.tiny.pictures import Pictures, caption_of, facts_of, search_prompts, tokenizer, truths
from videobrain.training.tiny.recall import evaluate_encoder
from videobrain.training.tiny.stages import JsonLines, Stage, write_atomically
from videobrain.world import HELD_OUT_PAIRS, FrameState, Glyph, Sight, Thing, draw_state, prompts, still
from videobrain.world.scenario import Background

SMALL = Recipe(side=32, width=8, text_width=32, text_layers=1, dimension=32, steps=24, batch=8, captions=2, every=8)


class Killed(Exception):
    """Stands for the end of the process."""


def state_of(*contents: Thing | Glyph, screen: str | None = None) -> FrameState:
    places = ((0.25, 0.25), (0.75, 0.75))
    sights = tuple(Sight(each, *place, 0.2, 0, 0) for each, place in zip(contents, places, strict=False))
    return FrameState(Background("stripes", 7), screen, sights)


def curve(cache: Path) -> list[dict[str, float]]:
    (path,) = cache.glob("encoder-*/curve.jsonl")
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


class TestTruths:
    def test_prompts_bind_colour_to_shape(self) -> None:
        texts = search_prompts("train")
        state = state_of(Thing("red", "star"), Thing("blue", "ring"))
        (row,) = truths([state], texts)
        assert {text.words for text, true in zip(texts, row, strict=True) if true} == {
            *("a red star", "a star", "a red object"),
            *("a blue ring", "a ring", "a blue object"),
        }

    def test_glyphs_and_screens(self) -> None:
        texts = search_prompts("train")
        rows = truths([state_of(Glyph("4")), state_of(screen="pink")], texts)
        found = [{text.words for text, true in zip(texts, row, strict=True) if true} for row in rows]
        assert found == [{"the digit 4", "a digit"}, {"a pink screen"}]

    def test_a_caption_is_true_of_what_shows_as_much_and_more(self) -> None:
        one, both = state_of(Thing("red", "star")), state_of(Thing("red", "star"), Glyph("A"))
        swapped = state_of(Thing("blue", "star"), Thing("red", "ring"))
        texts = [caption_of(state) for state in (one, both, state_of())]
        assert [text.words for text in texts][1] == "a red star and the letter A on stripes"
        expected = [[True, False, False], [True, True, False], [False, False, False], [False, False, True]]
        assert truths([one, both, swapped, state_of()], texts).tolist() == expected

    def test_every_prompt_of_the_world_is_among_the_search_prompts(self) -> None:
        rng = random.Random(1)
        known = {text.words for text in search_prompts("test")}
        for _ in range(500):
            state = still(rng, "test")
            assert known.issuperset(prompts(state))
            assert facts_of(state).issuperset(prompts(state))

    def test_held_out_pairs_are_never_seen_in_training(self) -> None:
        batches = [Pictures(side=32, size=64, captions=64, seed=3)[number] for number in range(3)]
        words = " | ".join(word for batch in batches for word in batch.words)
        assert not any(str(thing) in words for thing in HELD_OUT_PAIRS)

    def test_batches_follow_from_their_number(self) -> None:
        pictures = Pictures(side=32, size=4, captions=2, seed=3)
        first, again, other = pictures[5], pictures[5], pictures[6]
        assert first.pixels.shape == (4, 3, 32, 32)
        assert first.true.shape == (4, len(first.words))
        assert np.array_equal(first.pixels, again.pixels)
        assert first.words == again.words
        assert not np.array_equal(first.pixels, other.pixels)


def test_the_tokenizer_knows_every_prompt_and_ends_with_its_highest_number() -> None:
    coder = tokenizer()
    rng = random.Random(2)
    words = [
        *(text.words for text in search_prompts("test")),
        *(caption_of(still(rng, "test")).words for _ in range(200)),
    ]
    ids = coder(words)["input_ids"]
    assert all(coder.unk_token_id not in each and each[-1] == len(coder) - 1 == max(each) for each in ids)
    assert max(map(len, ids)) <= 16
    assert coder("A Red STAR")["input_ids"] == coder("a red star")["input_ids"]


def test_the_learning_rate_rises_and_falls() -> None:
    rates = [learning_rate(Recipe(), progress) for progress in (0, 0.02, 0.05, 0.5, 1)]
    assert rates[0] < rates[1] < rates[2] > rates[3] > rates[4] == 0


def test_training_lowers_the_loss_and_the_result_loads(tmp_path: Path) -> None:
    lines: list[str] = []
    out = train_encoder(tmp_path / "out", cache=tmp_path / "cache", log=lines.append, recipe=SMALL)
    points = curve(tmp_path / "cache")
    assert [point["step"] for point in points] == [8, 16, 24]
    assert points[-1]["loss"] < 0.7 * points[0]["loss"]

    encoder = OpenClipEncoder(str(out), settings=Settings(offline=True))
    encoder.load()
    assert encoder.dimension == SMALL.dimension
    vectors = encoder.embed_texts(["a red star", "red star", "the digit 4"])
    assert len(np.unique(vectors.round(5), axis=0)) == 3
    assert encoder.embed_images([draw_state(state_of(Thing("red", "star")))]).shape == (1, SMALL.dimension)

    # Trained already: nothing is done again.
    train_encoder(tmp_path / "again", cache=tmp_path / "cache", log=lines.append, recipe=SMALL)
    assert curve(tmp_path / "cache") == points
    names = sorted(path.name for path in out.iterdir())
    assert names == sorted(path.name for path in (tmp_path / "again").iterdir())


def test_a_killed_training_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    def kill(line: str) -> None:
        if line.startswith("Step 16"):  # logged before the checkpoint is written: eight steps are done again
            raise Killed

    lines: list[str] = []
    with pytest.raises(Killed):
        train_encoder(tmp_path / "out", cache=tmp_path / "killed", log=kill, recipe=SMALL)
    assert not (tmp_path / "out").exists()
    resumed = train_encoder(tmp_path / "out", cache=tmp_path / "killed", log=lines.append, recipe=SMALL)
    assert "Going on after step 8" in lines
    whole = train_encoder(tmp_path / "whole", cache=tmp_path / "whole-cache", log=lines.append, recipe=SMALL)
    assert [point["step"] for point in curve(tmp_path / "killed")] == [8, 16, 24]
    left, right = (load_file(each / "open_clip_model.safetensors") for each in (resumed, whole))
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_allclose(left[name].float().numpy(), right[name].float().numpy(), atol=0.02)


def test_minutes_end_a_training_early(tmp_path: Path) -> None:
    recipe = replace(SMALL, steps=100_000, every=100_000)
    train_encoder(tmp_path / "out", cache=tmp_path / "cache", minutes=0.02, log=lambda _: None, recipe=recipe)
    (point,) = curve(tmp_path / "cache")
    assert 0 < point["step"] < 100_000


def test_recall_is_measured_on_videos_through_the_index(tmp_path: Path) -> None:
    out = train_encoder(tmp_path / "out", cache=tmp_path, log=lambda _: None, recipe=replace(SMALL, steps=1, every=1))
    recall = evaluate_encoder(out, cache=tmp_path, videos=1, duration_seconds=120, log=lambda _: None)
    assert len(recall.found) == 2
    for found in recall.found:
        assert len(found.frames) == 4
        middle = round(sum(found.question.spans[0]) / 2 * 10)
        assert replace(found, frames=(middle,)).right
        assert not replace(found, frames=(0,)).right
    assert recall.share()[1] == recall.share(held_out=True)[1] + recall.share(held_out=False)[1] == 2
    assert "all" in recall.table()


class TestStages:
    def test_a_stage_is_done_once_for_each_configuration(self, tmp_path: Path) -> None:
        calls: list[Path] = []
        stage = Stage("one", {"a": 1}, tmp_path)
        assert not stage.done
        assert stage.run(calls.append) == stage.run(calls.append) == calls[0]
        Stage("one", {"a": 2}, tmp_path).run(calls.append)
        assert len(set(calls)) == len(calls) == 2

    def test_a_stage_that_fails_is_not_done_and_keeps_what_it_left(self, tmp_path: Path) -> None:
        stage = Stage("one", {}, tmp_path)

        def fail(directory: Path) -> None:
            (directory / "half").write_text("x", "utf-8")
            raise Killed

        with pytest.raises(Killed):
            stage.run(fail)
        assert not stage.done
        stage.run(lambda directory: (directory / "half").rename(directory / "whole") and None)
        assert stage.done

    def test_a_file_is_written_whole_or_not_at_all(self, tmp_path: Path) -> None:
        path = tmp_path / "file"

        def fail(aside: Path) -> None:
            aside.write_text("half", "utf-8")
            raise Killed

        with pytest.raises(Killed):
            write_atomically(path, fail)
        assert not path.exists()

    def test_a_log_drops_what_is_done_again_and_what_was_cut_short(self, tmp_path: Path) -> None:
        path = tmp_path / "log.jsonl"
        path.write_text('{"step": 1}\n{"step": 2}\n{"st', "utf-8")
        JsonLines(path, lambda line: line["step"] <= 1).add(step=3)
        assert path.read_text("utf-8") == '{"step": 1}\n{"step": 3}\n'
