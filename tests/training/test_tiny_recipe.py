"""The tiny model from nothing, as the command makes it: in a miniature that has learnt nothing, but with every part."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import pytest
from PIL import Image

from videobrain.errors import ConfigurationError
from videobrain.index import OpenClipEncoder
from videobrain.models import bundled
from videobrain.models.profiles import PROFILE_FILE, profile_for
from videobrain.settings import Settings
from videobrain.training.tiny import recipe
from videobrain.training.tiny.card import FACTS, Facts, model_card, weights_digest, write_card
from videobrain.training.tiny.curves import read_curve
from videobrain.training.tiny.figures import Bar, Evaluation, Figures, Interval
from videobrain.training.tiny.recipe import FULL, QUICK, Progress, train_tiny, vlm_stages
from videobrain.training.tiny.stages import Stage
from videobrain.training.tiny.trainer import CURRICULUM

pytestmark = pytest.mark.timeout(300)
STAGES = ["encoder", *(stage.name for stage in CURRICULUM)]


class Made(NamedTuple):
    out: Path
    cache: Path
    told: str


def command(out: Path, cache: Path) -> dict[str, Any]:
    """What starts a training in a process of its own."""
    return {
        "args": [sys.executable, "-m", "videobrain", "train", "tiny", "--quick", "--out", str(out)],
        "env": {**os.environ, "VIDEOBRAIN_CACHE_DIR": str(cache)},
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
    }


def finish(out: Path, cache: Path) -> str:
    """Train to the end; what the command told."""
    done = subprocess.run(**command(out, cache), timeout=250, check=False)
    assert (done.returncode, done.stdout) == (0, f"{out}\n"), done.stderr
    return str(done.stderr)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A training that nothing disturbed."""
    home = tmp_path_factory.mktemp("undisturbed")
    out = home / "below" / "tiny"
    return Made(out, home / "cache" / "tiny", finish(out, home / "cache"))


def files(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def weights(directory: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    paths = directory / "model.safetensors", directory / "encoder" / "open_clip_model.safetensors"
    return {f"{path.name} {name}": tensor for path in paths for name, tensor in load_file(path).items()}


# What is made ----------------------------------------------------------------------------------------------------


def test_the_directory_holds_everything(made: Made) -> None:
    found = files(made.out)
    assert {"config.json", "model.safetensors", "tokenizer.json", "videobrain.json", "README.md"} <= found
    assert {"encoder/open_clip_config.json", "encoder/open_clip_model.safetensors", "encoder/tokenizer.json"} <= found
    logs = {f"training/{stage}.jsonl" for stage in STAGES}
    assert {name for name in found if name.startswith("training/")} == {*logs, FACTS, "training/curves.png"}
    assert files(made.out.parent) == {f"tiny/{name}" for name in found}  # nothing is left aside
    with Image.open(made.out / "training" / "curves.png") as picture:
        picture.load()
        assert min(picture.size) >= 400


def test_model_processor_encoder_and_profile_load(made: Made) -> None:
    import transformers

    model = transformers.AutoModelForImageTextToText.from_pretrained(made.out)
    processor = transformers.AutoProcessor.from_pretrained(made.out)
    assert model.config.model_type == "qwen3_vl"
    assert model.config.text_config.vocab_size == len(processor.tokenizer)
    profile = profile_for(str(made.out))
    assert (profile.prompts, profile.native_tools, profile.knows) == ("compact", False, "synthetic world")
    for size in ((64, 64), (128, 128), (640, 640), (640, 360)):
        seen = processor.image_processor(images=[Image.new("RGB", size)], return_tensors="pt")
        tokens = int(seen["image_grid_thw"].prod()) // processor.image_processor.merge_size**2
        assert profile.image_tokens(*size) == 6
        assert tokens == 4 if size[0] == size[1] else tokens <= 4
    encoder = OpenClipEncoder(str(profile.encoder), settings=Settings(offline=True))
    encoder.load()
    assert encoder.dimension == QUICK.encoder.dimension


def test_progress_says_stage_step_loss_accuracy_and_time_left(made: Made) -> None:
    lines = made.told.splitlines()
    assert [line.split()[0] for line in lines] == ["encoder"] * 3 + [name for name in STAGES[1:] for _ in range(6)]
    assert all("loss" in line and "accuracy" in line for line in lines)
    assert [line.split()[0] for line in lines if line.endswith("done")] == STAGES
    assert str(Progress("lookup", 250, 1500, 0.5, 0.912, 840.0)) == (
        "lookup           250 of 1,500 steps  loss 0.500  accuracy  91.2 %  14 min 0 s left"
    )


def test_the_card_states_the_facts_of_the_run(made: Made) -> None:
    facts = json.loads((made.out / FACTS).read_text("utf-8"))
    card = (made.out / "README.md").read_text("utf-8")
    assert [stage["name"] for stage in facts["stages"]] == STAGES
    assert facts["weights_bytes"] == (made.out / "model.safetensors").stat().st_size
    assert f"{facts['parameters']:,} parameters" in card
    assert "has learnt nothing" in card
    assert "Nothing has been measured" in card
    assert card.startswith("---\nlicense: apache-2.0\n")


# Going on --------------------------------------------------------------------------------------------------------


def test_a_killed_training_goes_on_to_the_same_weights(made: Made, tmp_path: Path) -> None:
    out, cache = tmp_path / "tiny", tmp_path / "cache"
    with subprocess.Popen(**command(out, cache)) as process:
        try:
            seen = next(line for line in process.stderr if line.startswith("lookup") and " 4 of 6" in line)
        finally:
            process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not out.exists()
    told = finish(out, cache)
    begun = [line.split()[:2] for line in told.splitlines()]
    done = STAGES[1 : STAGES.index("lookup")]
    assert begun[: len(done) + 1] == [["encoder", "24"], *([stage, "6"] for stage in done)]
    lookup = [int(step) for stage, step in begun if stage == "lookup"]
    assert lookup in ([4, 5, 6], [5, 6]), seen  # the kill may come before the checkpoint or after it
    resumed, whole = weights(out), weights(made.out)
    assert resumed.keys() == whole.keys()
    assert all(resumed[name].equal(whole[name]) for name in whole)
    assert weights_digest(out) == weights_digest(made.out)


def test_finished_stages_are_not_trained_again(made: Made, tmp_path: Path) -> None:
    """Nor are those that `train_stage` finished elsewhere; the directory is written anew, with figures."""
    out, cache = tmp_path / "tiny", tmp_path / "cache"
    shutil.copytree(made.out, out)
    (out / "own.txt").write_text("replaced with the rest", "utf-8")
    shutil.copytree(made.cache, cache)
    for stage in CURRICULUM:
        (marker,) = cache.glob(f"{stage.name}-*/done.json")
        marker.unlink()
    told: list[Progress] = []
    assert train_tiny(out, cache=cache, recipe=QUICK, progress=told.append) == out
    assert [progress.stage for progress in told] == ["encoder"]
    assert files(out) == files(made.out)
    assert weights_digest(out) == weights_digest(made.out)
    assert files(tmp_path / "tiny") == files(made.out)
    assert {path.name for path in tmp_path.iterdir()} == {"tiny", "cache"}


def test_figures_are_written_into_the_card(made: Made, tmp_path: Path) -> None:
    out = tmp_path / "tiny"
    shutil.copytree(made.out, out)
    write_card(out)
    assert files(out) == files(made.out)
    digest = weights_digest(out)
    card = write_card(out, evaluation(digest))
    assert "| videobrain | all | 500 | 93.0 % (91.0 to 95.0) |" in card.read_text("utf-8")
    assert weights_digest(out) == digest
    text = card.read_text("utf-8")
    with pytest.raises(ConfigurationError, match="other weights, of another; those"):
        write_card(out, evaluation("of another"))
    assert card.read_text("utf-8") == text
    (out / FACTS).unlink()
    with pytest.raises(ConfigurationError, match=r"facts\.json is missing"):
        write_card(out)


def evaluation(digest: str) -> Evaluation:
    figures = Figures(
        part="all", questions=500, right=Interval(0.93, 0.91, 0.95), chance=0.2, frames=24, turns=1.6, seconds=0.9,
        tools=0.7, ill_formed=0.001, unanswered=0, errors=0,
    )  # fmt: skip
    return Evaluation(
        model="tiny", weights=digest, version="1", questions=500, videos=84, duration_seconds=600, seed=500_000,
        strategies={"videobrain": (figures,)},
        bars=(Bar(name="right answers", required="at least 90 %", found=str(figures.right), passed=True),),
    )  # fmt: skip


def test_the_card_says_which_bars_were_met(made: Made) -> None:
    facts = Facts.model_validate_json((made.out / FACTS).read_bytes())
    missed = Bar(name="ill-formed replies", required="below 1 %", found="2.0 %", passed=False)
    found = evaluation("").model_copy(update={"bars": (*evaluation("").bars, missed)})
    card = model_card(facts.model_copy(update={"recipe": "full", "seed": 3}), found)
    assert "| right answers | at least 90 % | 93.0 % (91.0 to 95.0) | met |" in card
    assert "| ill-formed replies | below 1 % | 2.0 % | missed |" in card
    assert "has learnt nothing" not in card
    assert "--out DIRECTORY --seed 3`" in card


def test_stages_are_named_by_all_that_they_depend_on(tmp_path: Path) -> None:
    def names(each: Any = FULL, seed: int = 0) -> list[str]:
        return [stage.directory.name for _, stage in vlm_stages(each, tmp_path, seed)]

    lookup = (CURRICULUM[0], replace(CURRICULUM[1], learning_rate=1.0), *CURRICULUM[2:])
    assert names() == names(replace(FULL, workers=3, report_steps=7, checkpoint_seconds=1.0, name="other"))
    assert not set(names()) & {*names(seed=1), *names(replace(FULL, shape=QUICK.shape))}
    assert [one == other for one, other in zip(names(), names(replace(FULL, curriculum=lookup)), strict=True)] == [
        *(True, *[False] * (len(CURRICULUM) - 1))
    ]


def test_the_full_recipe_is_the_stated_profile() -> None:
    written = (bundled.DIRECTORY / PROFILE_FILE).read_text("utf-8")
    assert json.loads(written)["profile"] == recipe.tiny_profile().model_dump(mode="json", exclude_unset=True)
    assert [stage.name for stage in FULL.curriculum] == STAGES[1:]


def test_time_is_added_up_over_sessions(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    lines: list[dict[str, Any]] = [{"step": 0, "seed": 0}]
    for step, seconds in ((10, 5.0), (20, 10.0), (30, 4.0), (40, 9.0)):
        lines.append({"step": step, "loss": 1.0, "seconds": seconds, "accuracy": {"all": step / 100}})
    lines[-1]["accuracy"]["letter"] = 0.5
    log.write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")
    curve = read_curve("lookup", log)
    assert curve.seconds == 19.0
    assert curve.steps == [10, 20, 30, 40]
    assert curve.accuracy["all"] == [0.1, 0.2, 0.3, 0.4]
    assert curve.accuracy["letter"][-1] == 0.5
    assert len(curve.accuracy["letter"]) == 4


# Where it is written ---------------------------------------------------------------------------------------------


def test_what_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    out, file = tmp_path / "mine", tmp_path / "file"
    out.mkdir()
    (out / "model.safetensors").write_text("precious", "utf-8")
    file.write_text("precious", "utf-8")
    for place, says in ((out, "was not written by"), (file, "was not written by"), (file / "below", "no directory")):
        with pytest.raises(ConfigurationError, match=says):
            train_tiny(place, cache=tmp_path / "cache", recipe=QUICK)
    with pytest.raises(ConfigurationError, match="outside"):
        train_tiny(tmp_path / "new", cache=tmp_path / "new" / "cache", recipe=QUICK)
    assert files(tmp_path) == {"mine/model.safetensors", "file"}
    assert not (tmp_path / "cache").exists()


def test_one_training_at_a_time_uses_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "_LOCK_SECONDS", 0.1)
    (tmp_path / "cache").mkdir()
    with (
        filelock.FileLock(tmp_path / "cache" / ".lock"),
        pytest.raises(ConfigurationError, match="Another training works in"),
    ):
        train_tiny(tmp_path / "out", cache=tmp_path / "cache", recipe=QUICK)


def test_a_missing_package_is_an_error_that_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(recipe._PACKAGES, "no_such_package", "no-such-package")
    with pytest.raises(ImportError, match=r"no-such-package.*videobrain\[tiny\]"):
        train_tiny(tmp_path / "out", cache=tmp_path / "cache", recipe=QUICK)


class TestWholeDirectory:
    def write(self, path: Path, text: str, *, fails: bool = False) -> None:
        with recipe._whole_directory(path) as aside:
            (aside / "file").write_text(text, "utf-8")
            if fails:
                raise KeyboardInterrupt

    def test_it_appears_or_it_is_replaced(self, tmp_path: Path) -> None:
        for text in ("one", "two"):
            self.write(tmp_path / "out", text)
            assert (tmp_path / "out" / "file").read_text("utf-8") == text
            assert [path.name for path in tmp_path.iterdir()] == ["out"]

    def test_a_failure_changes_nothing(self, tmp_path: Path) -> None:
        self.write(tmp_path / "out", "one")
        for name in ("out", "other"):
            with pytest.raises(KeyboardInterrupt):
                self.write(tmp_path / name, "two", fails=True)
        assert files(tmp_path) == {"out/file"}
        assert (tmp_path / "out" / "file").read_text("utf-8") == "one"

    def test_what_a_kill_left_is_cleared_away(self, tmp_path: Path) -> None:
        for left in (".out.part", ".out.old"):
            (tmp_path / left).mkdir()
            (tmp_path / left / "file").write_text(left, "utf-8")
        with pytest.raises(KeyboardInterrupt):
            self.write(tmp_path / "out", "two", fails=True)
        assert (tmp_path / "out" / "file").read_text("utf-8") == ".out.old"  # killed between the two renames
        self.write(tmp_path / "out", "three")
        assert files(tmp_path) == {"out/file"}


def test_stages_of_one_name_lie_beside_each_other(tmp_path: Path) -> None:
    one, other = Stage("lookup", {"seed": 1}, tmp_path), Stage("lookup", {"seed": 2}, tmp_path)
    assert one.directory != other.directory
