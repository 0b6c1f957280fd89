"""verl's agent loop that is `VideoBrain.ask`: what is trained is what an application runs."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopMetrics, AgentLoopOutput

from videobrain.errors import ModelError
from videobrain.training.player import Player, PlaySettings
from videobrain.training.sample import TrainingSample
from videobrain.training.token_model import Sampled, Sampling

if TYPE_CHECKING:
    from PIL import Image


class VideoBrainLoop(AgentLoopBase):  # type: ignore[misc]
    """Plays one rollout; verl makes one of these for each.

    Args:
        settings: File of `PlaySettings`; beside ``_target_`` in the file of agent loops that verl reads.
    """

    def __init__(self, *arguments: Any, settings: str, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._shared = _shared(settings)

    async def run(self, sampling_params: dict[str, Any], **row: Any) -> AgentLoopOutput:
        """Play the rollout of a row of `SampleDataset`.

        Raises:
            RolloutError: It is to be left out. verl goes on with those of its group that did not fail.
        """
        player = await self._shared.player(self.processor)
        sample = TrainingSample.model_validate_json(row["sample"])
        request_id = uuid4().hex  # one for all turns: its server has the conversation in its cache
        steps: list[int] = []
        seconds = 0.0

        async def generate(prompt: Sequence[int], images: Sequence[Image.Image], sampling: Sampling) -> Sampled:
            nonlocal seconds
            began = time.monotonic()
            output = await self.server_manager.generate(
                request_id=request_id,
                prompt_ids=list(prompt),
                sampling_params={**sampling_params, "max_tokens": sampling.max_tokens},
                image_data=list(images) or None,
            )
            seconds += time.monotonic() - began
            if output.stop_reason in ("abort", "aborted"):
                raise ModelError("The rollout's server broke the reply off.")
            steps.extend(int(output.extra_fields.get(key) or 0) for key in ("min_global_steps", "max_global_steps"))
            return Sampled(output.token_ids, output.log_probs)

        step = int(row.get("global_steps", 0))
        name = f"step-{step:06d}/{sample.key}-{str(row.get('uid', ''))[:8]}-{row.get('session_id', 0)}"
        began = time.monotonic()
        played = await player.play(sample, generate, name=name)
        tokens = played.trajectory
        if tokens.log_probs is None:
            raise ModelError("The rollout's server gave no log-probabilities.")
        # verl 0.9 takes the places of images in a mini-batch for something else where all its rows are of one length:
        # every other rollout of a group is a token longer, which is not trained.
        longer = int(row.get("session_id", 0)) % 2
        return AgentLoopOutput(
            prompt_ids=list(tokens.prompt_ids),
            response_ids=[*tokens.response_ids, *tokens.response_ids[-1:] * longer],
            response_mask=[*tokens.response_mask, *[0] * longer],
            response_logprobs=[*tokens.log_probs, *[0.0] * longer],
            multi_modal_data={"images": list(tokens.images)} if tokens.images else {},
            reward_score=played.worth.total,
            num_turns=2 * tokens.replies,
            metrics=AgentLoopMetrics(generate_sequences=seconds, tool_calls=time.monotonic() - began - seconds),
            extra_fields={
                "reward_extra_info": played.figures(),
                "min_global_steps": min(steps),
                "max_global_steps": max(steps),
            },
        )


@functools.cache
def _shared(settings: str) -> _Shared:
    # verl makes a loop for each rollout and has no place for what those of a process share.
    return _Shared(PlaySettings.model_validate_json(Path(settings).read_text("utf-8")))


class _Shared:
    """The one player of a process."""

    def __init__(self, settings: PlaySettings) -> None:
        self._settings = settings
        self._player: Player | None = None
        self._lock = asyncio.Lock()

    async def player(self, processor: Any) -> Player:
        async with self._lock:
            if self._player is None:
                player = await asyncio.to_thread(Player, processor, self._settings)
                self._player = await player.__aenter__()  # it ends with the process, as verl's workers do
            return self._player
