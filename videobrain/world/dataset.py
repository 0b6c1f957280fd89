"""A folder of synthetic videos with their questions."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path

from videobrain.errors import ConfigurationError
from videobrain.files import whole_path
from videobrain.world.files import holds
from videobrain.world.question import WorldQuestion
from videobrain.world.vocabulary import Split
from videobrain.world.world import World

QUESTIONS_FILE = "questions.jsonl"


def write_dataset(
    directory: str | Path,
    split: Split,
    videos: int,
    *,
    seed: int = 0,
    duration_seconds: int | None = None,
    unanswerable: bool = False,
    processes: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write videos and, in ``questions.jsonl``, their questions.

    Whole videos that are there already are kept, so a second start does what is missing; the file of questions holds
    those of the last call's videos alone. A video of each seed has six
    questions, so every data set is a third of each class and half multiple choice.

    Args:
        directory: The folder; it is made where it is missing.
        split: Which videos.
        videos: How many; their seeds follow each other.
        seed: Seed of the first.
        duration_seconds: Length of each; by default 2 to 30 minutes at random.
        unanswerable: Add to each video a question that cannot be answered.
        processes: Videos written at once. With more than one, a script must guard its work by
            ``if __name__ == "__main__":``, since Python starts the script anew in each.
        progress: Called with the number of videos that are ready and of all videos.

    Returns:
        The file of questions.

    Raises:
        ConfigurationError: A number or the split is none that there is.
        OSError: The folder cannot be written to.
    """
    if videos < 1 or processes < 1:
        raise ConfigurationError("A data set needs at least one video, and one process to write it.")
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)

    write = partial(_write_video, directory, split, duration_seconds)
    seeds = range(seed, seed + videos)
    if processes == 1:
        for ready, number in enumerate(seeds, 1):
            write(number)
            if progress:
                progress(ready, videos)
    else:
        # Spawned, since a fork copies the locks of the threads that happen to run.
        with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
            jobs = [pool.submit(write, number) for number in seeds]
            try:
                for ready, job in enumerate(as_completed(jobs), 1):
                    job.result()
                    if progress:
                        progress(ready, videos)
            except BaseException:  # also Ctrl-C: the rest is not begun
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    questions: list[WorldQuestion] = []
    for number in seeds:
        world = World(number, split=split, duration_seconds=duration_seconds)
        questions += [*world.questions, *([world.unanswerable] if unanswerable else [])]
    path = directory / QUESTIONS_FILE
    with whole_path(path) as aside:
        aside.write_text("".join(f"{question.model_dump_json()}\n" for question in questions), "utf-8")
    return path


def _write_video(directory: Path, split: Split, duration_seconds: int | None, seed: int) -> None:
    world = World(seed, split=split, duration_seconds=duration_seconds)
    path = directory / world.file_name
    if not holds(path, world.comment, world.frame_count):
        world.write(path)
