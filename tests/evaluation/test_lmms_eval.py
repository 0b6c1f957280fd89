"""videobrain as a model of lmms-eval; what needs lmms-eval itself runs where it is installed."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from videobrain import VideoBrain
from videobrain.errors import InputError, VideoNotFoundError
from videobrain.evaluation.lmms_eval import NAME, Request, answer_all, questions_of
from videobrain.testing import ScriptedModel, make_video

ROOT = Path(__file__).resolve().parents[2]
SAID = "<thinking>A guess.</thinking><answer>{}</answer>"
TASKS: dict[str, dict[str, list[Any]]] = {"task": {"test": [["a.mp4"], ["b.mp4"], ["a.mp4", "b.mp4"], [object()], []]}}


def request(document: int, context: str = "Which colour?\nA. red\nB. blue") -> Request:
    return Request(context, {"max_new_tokens": 16}, lambda shown: shown, document, "task", "test")


def test_a_request_is_a_question_about_its_video() -> None:
    found = questions_of([request(1), request(0, "And now?")], TASKS)
    assert [(each.key, each.video, each.question) for each in found] == [
        ("0", "b.mp4", "Which colour?\nA. red\nB. blue"),
        ("1", "a.mp4", "And now?"),
    ]
    assert [each.options for each in found] == [None, None]  # they stand in the text


@pytest.mark.parametrize(("document", "kinds"), [(2, "2 visuals (str)"), (3, "1 visuals (object)"), (4, "0 visuals (")])
def test_what_is_not_one_video_is_refused(document: int, kinds: str) -> None:
    with pytest.raises(InputError, match=r"The task task shows .*one video file each") as caught:
        questions_of([request(document)], TASKS)
    assert kinds in str(caught.value)


@pytest.mark.anyio
async def test_answers_stand_in_the_order_of_the_questions(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    video = str(make_video(tmp_path / "v.mp4", seconds=1))
    tasks = {"task": {"test": [[video], [str(tmp_path / "lost.mp4")]]}}
    brain = VideoBrain(ScriptedModel([SAID.format("B"), SAID.format("A")]), strategy="blind")
    answers = await answer_all(brain, questions_of([request(0), request(1), request(0)], tasks), concurrency=1)
    assert [each and each.text for each in answers] == ["B", None, "A"]
    assert "lost.mp4" in caplog.text


@pytest.mark.anyio
async def test_a_batch_without_any_answer_is_an_error_and_no_score(tmp_path: Path) -> None:
    tasks = {"task": {"test": [[str(tmp_path / "lost.mp4")]]}}
    brain = VideoBrain(ScriptedModel([]), strategy="blind")
    with pytest.raises(VideoNotFoundError):
        await answer_all(brain, questions_of([request(0), request(0)], tasks), concurrency=2)


def test_the_entry_point_names_what_there_is() -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["entry-points"]
    assert groups["lmms_eval.models"] == {NAME: "videobrain.evaluation.lmms_eval:manifest"}


def test_lmms_eval_finds_the_model_and_gets_its_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = pytest.importorskip("lmms_eval.models")
    from lmms_eval.api.instance import Instance

    from videobrain.evaluation import lmms_eval_model

    scripted = VideoBrain(ScriptedModel([SAID.format("B")]), strategy="blind")
    monkeypatch.setattr(lmms_eval_model, "VideoBrain", lambda *given, **named: scripted)
    made = models.get_model(NAME).create_from_arg_string(
        "model=openai:some/model,base_url=http://localhost:1/v1,max_turns=3", {"batch_size": 1, "device": "cpu"}
    )
    made.task_dict["task"] = {"test": [[str(make_video(tmp_path / "v.mp4", seconds=1))]]}
    metadata = {"task": "task", "doc_id": 0, "repeats": 1}
    asked = Instance("generate_until", tuple(request(0)), 0, metadata)
    (result,) = made.generate_until([asked])
    assert result.text == "B"
    with pytest.raises(InputError, match="no likelihoods"):
        made.loglikelihood([asked])
