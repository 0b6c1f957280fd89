"""MVBench: 20 tasks from a dozen data sets of videos, some of them parts of a video, one of them frames."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from videobrain.evaluation.benchmarks.benchmark import Benchmark, Split
from videobrain.evaluation.benchmarks.reader import RowError
from videobrain.evaluation.benchmarks.row import Row, option_of_text
from videobrain.evaluation.benchmarks.source import Source
from videobrain.evaluation.sample import Sample
from videobrain.result import Span


class _Task(NamedTuple):
    folders: tuple[str, ...]
    """Where its videos are, whole."""
    cut: tuple[str, ...] = ()
    """Where another release has them cut to the part that is asked about."""
    frames: str | None = None
    """Where their frames are, at 3 per second, in a folder for each video."""


_STAR = _Task(("star/Charades_v1_480",), cut=("star/Charades_segment",))
_PERCEPTION = _Task(("perception/videos",))
_CLEVRER = _Task(("clevrer/video_validation",))
TASKS = {
    "action_sequence": _STAR,
    "action_prediction": _STAR,
    "action_antonym": _Task(("ssv2_video", "ssv2_video_mp4")),
    "fine_grained_action": _Task(("Moments_in_Time_Raw/videos",)),
    "unexpected_action": _Task(("FunQA_test/test",)),
    "object_existence": _CLEVRER,
    "object_interaction": _STAR,
    "object_shuffle": _PERCEPTION,
    "moving_direction": _CLEVRER,
    "action_localization": _Task(("sta/sta_video",), cut=("sta/sta_video_segment",)),
    "scene_transition": _Task(("scene_qa/video",)),
    "action_count": _PERCEPTION,
    "moving_count": _CLEVRER,
    "moving_attribute": _CLEVRER,
    "state_change": _PERCEPTION,
    "fine_grained_pose": _Task(("nturgbd", "nturgbd_convert")),
    "character_order": _PERCEPTION,
    "egocentric_navigation": _Task(("vlnqa",)),
    "episodic_reasoning": _Task(
        ("tvqa/video_fps3_hq", "tvqa/frames_fps3_hq"), cut=("tvqa/video_fps3_hq_segment",), frames="tvqa/frames_fps3_hq"
    ),
    "counterfactual_inference": _CLEVRER,
}
"""By the name of its file. The part of a video that is asked about is stated where the videos are cut elsewhere."""
_ROOTS = ("video", "videos", ".", "video/data0613", "data0613")
"""Folders that hold those of the tasks; ``data0613`` has the videos of questions that replaced repeated ones."""


def _read(source: Source) -> Iterator[Sample]:
    files = {task: path for path in source.files() if (task := _task_of(path))}
    for task in TASKS:
        if task in files:
            for row in source.rows(files[task]):
                with row:
                    yield _sample(source, row, task)
        elif source.given is None:
            source.report("file", f"{task}.json", "the file of this task is missing", "Its questions are left out.")


def _sample(source: Source, row: Row, name: str) -> Sample:
    task = TASKS[name]
    options, question, video = row.texts("candidates"), row.text("question"), row.text("video")
    correct = option_of_text(row.text("answer"), options)
    folders = tuple(f"{root}/{each}" for each in (*task.folders, *task.cut) for root in _ROOTS)
    path = source.find_video(video, folders=folders)
    if path is None and task.frames and (frames := _frames(source, task.frames, video)):
        raise RowError(
            f"{frames} is a folder of frames. Make a video of it: ffmpeg -framerate 3 -i {frames}/%05d.jpg {frames}.mp4"
        )
    path = path or source.video(video, folders=folders)
    clip = _clip(row) if task.cut and not any(f"{each}/" in path for each in task.cut) else None
    return Sample(
        key=f"{name}-{source.content_key(video, clip, question, *options)}",
        video=path,
        question=question,
        task="choice",
        options=options,
        correct_option=correct,
        answer=options[correct],
        clip=clip,
        slices={"type": name.replace("_", " ")},
    )


def _clip(row: Row) -> Span:
    start, end = row.number("start"), row.number("end")
    if not 0 <= start < end:
        raise RowError(f"the part from {start:g} to {end:g} s is none")
    return Span(start, end)


def _frames(source: Source, folder: str, video: str) -> str | None:
    places = (f"{root}/{folder}/{video}".removeprefix("./") for root in _ROOTS)
    return next((place for place in places if (source.videos / place).is_dir()), None)


def _task_of(path: Path) -> str | None:
    """The task of a file; newer releases have a date in the name."""
    return next((task for task in TASKS if path.stem == task or path.stem.startswith(f"{task}_2")), None)


MVBENCH = Benchmark(
    name="mvbench",
    title="MVBench",
    tasks=("choice",),
    splits={"test": Split(("json/*.json", "*.json"), 4000)},
    licence="annotations MIT, access on request; videos under the licences of their data sets, research only",
    download=(
        "https://huggingface.co/datasets/OpenGVLab/MVBench: json/*.json, and video/*.zip unpacked in video/; the "
        "videos of NTU RGB+D, for fine_grained_pose, from https://rose1.ntu.edu.sg/dataset/actionRecognition/ to "
        "video/nturgbd/"
    ),
    read=_read,
    videos=_ROOTS,
)
