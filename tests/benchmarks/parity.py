"""Are the tokens that are trained those that a server was given? Recorded episodes, token by token.

    PYTHON -m tests.benchmarks.parity --model DIR [--episodes N]

Run it with the Python of the environment that `tests/environments/build.sh` makes. A real vLLM serves the model and
answers questions of the synthetic world; each request of each run is then held against two others who build the same
conversation: the dataset of supervised fine-tuning, and a rollout of reinforcement learning that is given the recorded
replies. Equal have to be the token ids, what of them is trained, and the pixels. Last, each request is sampled once at
temperature 1: how often does the model write a reply in other tokens than its tokenizer would?
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import tempfile
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import openai

from tests.benchmarks.machine import describe
from tests.benchmarks.vllm_throughput import Turn, recorded
from tests.environments.fixtures import CPU_SETTINGS
from videobrain import Settings, Trace, VideoBrain
from videobrain.errors import RolloutError
from videobrain.evaluation.benchmarks import load_benchmark
from videobrain.evaluation.record import Record
from videobrain.evaluation.results import read_results
from videobrain.evaluation.runner import evaluate
from videobrain.models.engine import frame_image
from videobrain.models.vllm import ManagedVLLM
from videobrain.recipe import Recipe
from videobrain.training.player import Player, PlaySettings
from videobrain.training.reward_spec import RewardSpec, TermSpec
from videobrain.training.sample import TrainingSample, training_samples
from videobrain.training.token_model import Sampled, Sampling, TokenTrajectory
from videobrain.training.trajectories import Trajectory
from videobrain.training.verl.dataset import TrajectoryDataset
from videobrain.world import write_dataset

MOST_TOKENS = 32768
PER_VIDEO = 6
SAMPLED_TOKENS = 512
TOOL_SECONDS = 600.0
"""A search that a busy machine cuts short in one of the two would be a difference that says nothing."""


class Row(NamedTuple):
    """What supervised fine-tuning is given."""

    ids: list[int]
    sampled: list[int]

    def replies(self) -> list[tuple[int, int]]:
        """Where each reply begins and ends."""
        places: list[tuple[int, int]] = []
        end = 0
        for sampled, run in groupby(self.sampled):
            begin, end = end, end + len(list(run))
            if sampled:
                places.append((begin, end))
        return places


def collapsed(ids: Sequence[int], image: int) -> list[int]:
    """The ids with one image token for each image: a server may count its places before or after it has seen them."""
    return [token for token, run in groupby(ids) for _ in range(1 if token == image else len(list(run)))]


async def rolled_out(player: Player, sample: TrainingSample, row: Row) -> TokenTrajectory:
    """The rollout whose replies are those of a row."""
    left = [row.ids[begin:end] for begin, end in row.replies()][::-1]

    async def generate(prompt: Sequence[int], images: Sequence[Any], sampling: Sampling) -> Sampled:
        ids = left.pop()
        return Sampled(ids, [0.0] * len(ids))

    return (await player.play(sample, generate)).trajectory


async def measure(directory: Path, episodes: int, place: Path) -> bool:
    import transformers

    processor = transformers.AutoProcessor.from_pretrained(directory)
    tokenizer, image = processor.tokenizer, processor.image_token_id
    write_dataset(place / "world", "train", -(-episodes // PER_VIDEO), seed=800_000, duration_seconds=300)
    loaded = load_benchmark("world", place / "world")
    key = os.environ["VLLM_API_KEY"] = secrets.token_urlsafe(24)
    os.environ.update(CPU_SETTINGS)
    settings = Settings(
        cache_dir=place / "cache",
        offline=True,
        tool_timeout_seconds=TOOL_SECONDS,
        vllm_command=str(Path(sys.executable).parent / "vllm"),
        vllm_arguments="--dtype bfloat16 --enforce-eager --max-num-seqs 8",
        vllm_start_seconds=600,
    )
    model = ManagedVLLM(str(directory), settings=settings)
    wrong: dict[str, list[str]] = {"server": [], "mask": [], "rollout": [], "pixels": []}
    requests = other_tokens = replies = 0
    try:
        async with VideoBrain(model, settings=settings) as brain:
            await evaluate(loaded, brain, place / "run", keep_frames=True, limit=episodes)
        capacity = await model.capacity()
        by_key = {sample.key: sample for sample in training_samples(loaded)}
        records = [record for record in read_results(place / "run") if record.trace and not record.error][:episodes]
        traces = [Trace.load(place / "run" / str(record.trace)) for record in records]
        rows = rows_of(records, by_key, place, processor)
        recipe = Recipe(
            model=None,
            base_url=None,
            tools=None,
            encoder=None,
            strategy="videobrain",
            limits=brain.limits,
            settings={"offline": True, "cache_dir": str(place / "cache"), "tool_timeout_seconds": TOOL_SECONDS},
        )
        worth = RewardSpec(terms=(TermSpec(measure="accuracy"),), gate="none")
        played_as = PlaySettings(
            model=str(directory), recipe=recipe, reward=worth, context_tokens=capacity.max_model_len
        )
        player = Player(processor, played_as)
        async with player, openai.AsyncOpenAI(base_url=model.base_url, api_key=key, timeout=600) as client:
            for record, trace, row, turns in zip(records, traces, rows, recorded(traces, capacity.model), strict=True):
                name = record.sample.key
                for turn, (begin, end) in zip(turns, row.replies(), strict=True):
                    given = await continued(client, turn)
                    requests += 1
                    if collapsed(given.prompt, image) != collapsed(row.ids[:begin], image):
                        wrong["server"].append(name)
                    replies += 1
                    text = tokenizer.decode(given.reply)
                    other_tokens += tokenizer.encode(text, add_special_tokens=False) != given.reply
                    if row.ids[end - 1] != tokenizer.eos_token_id:
                        wrong["mask"].append(name)
                said = [message.text for message in trace.messages if message.role == "assistant"]
                if [tokenizer.decode(row.ids[begin : end - 1]) for begin, end in row.replies()] != said:
                    wrong["mask"].append(name)
                try:
                    played = await rolled_out(player, by_key[name], row)
                except RolloutError as error:
                    print(error)
                    wrong["rollout"].append(name)
                    continue
                ids = [*played.prompt_ids, *played.response_ids]
                mask = [*[0] * len(played.prompt_ids), *played.response_mask]
                if (ids, mask) != (row.ids[: len(ids)], row.sampled[: len(ids)]) or any(row.sampled[len(ids) :]):
                    wrong["rollout"].append(name)
                shown = [frame for message in trace.messages for frame in message.frames]
                if [frame_image(frame).tobytes() for frame in shown] != [each.tobytes() for each in played.images]:
                    wrong["pixels"].append(name)
    finally:
        await model.aclose()
    if len(records) < episodes:
        print(f"only {len(records)} of {episodes} episodes came to their end")
    print(f"{len(records)} episodes, {requests} requests, {sum(len(row.ids) for row in rows):,} tokens")
    for what, names in wrong.items():
        print(f"{what}: {'equal' if not names else f'{len(names)} differ, such as {names[0]}'}")
    print(f"at temperature 1, {other_tokens} of {replies} replies are in other tokens than the tokenizer's")
    return len(records) >= episodes and not any(wrong.values())


def rows_of(records: Sequence[Record], by_key: Mapping[str, TrainingSample], place: Path, processor: Any) -> list[Row]:
    """The runs as rows of supervised fine-tuning, by the dataset that verl is given."""
    file = place / "trajectories.jsonl"
    lines = [
        Trajectory(sample=by_key[record.sample.key], trace=f"run/{record.trace}", usage=record.usage).model_dump_json()
        for record in records
    ]
    file.write_text("\n".join(lines) + "\n", "utf-8")
    dataset = TrajectoryDataset(str(file), None, {"max_length": MOST_TOKENS}, processor)
    items = (dataset[number] for number in range(len(dataset)))  # each has its pixels with it
    return [Row(item["input_ids"].tolist(), item["loss_mask"].tolist()) for item in items]


class Continued(NamedTuple):
    """What a server was given and sampled."""

    prompt: list[int]
    reply: list[int]


async def continued(client: openai.AsyncOpenAI, turn: Turn) -> Continued:
    """Have a request answered, at temperature 1."""
    answer = await client.chat.completions.create(
        **turn.body, temperature=1.0, max_tokens=SAMPLED_TOKENS, extra_body={"return_token_ids": True}
    )
    said = answer.model_dump()
    return Continued(list(said["prompt_token_ids"]), list(said["choices"][0]["token_ids"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="directory of the model")
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--out", type=Path, help="directory that keeps the runs")
    given = parser.parse_args()
    print(describe("vllm", "verl", "transformers"))
    with tempfile.TemporaryDirectory() as temporary:
        passed = anyio.run(measure, given.model.absolute(), given.episodes, (given.out or Path(temporary)).absolute())
    raise SystemExit(0 if passed else 1)


if __name__ == "__main__":
    main()
