"""A model that says what the test tells it to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from videobrain.models.messages import ChatReply, ChatRequest, ModelEvent, TextDelta
from videobrain.models.protocol import ModelCapacity, ModelProfile

Reply = str | ChatReply | BaseException
ScriptStep = Reply | Callable[[ChatRequest], Reply]
"""A reply's text, a whole reply, an error to raise, or a function of the request that gives one of these."""


class ScriptedModel:
    """A `ChatModel` that gives the replies of a script, in order.

    It fails with `AssertionError` on a request that the script has no step for, and on steps that were not used: in
    `assert_done`, at the end of ``async with``, and in `aclose`. The latter is silent after such a request, so that the
    first failure stays the one that is seen.

    Attributes:
        requests: Every request so far.

    Args:
        script: The replies; a function is given the request.
        profile: What the model claims to be able to do.
        max_model_len: Length of context that it claims to have.
        streams: Give each reply's text as deltas too, line by line.
    """

    def __init__(
        self,
        script: Iterable[ScriptStep],
        *,
        profile: ModelProfile | None = None,
        max_model_len: int | None = None,
        streams: bool = False,
    ) -> None:
        self._script = list(script)
        self._profile = profile or ModelProfile(constrains=True)
        self._capacity = ModelCapacity(model="scripted", max_model_len=max_model_len)
        self._streams = streams
        self._failed = False
        self.requests: list[ChatRequest] = []

    def __repr__(self) -> str:
        return f"ScriptedModel({len(self._script)} steps, {len(self.requests)} used)"

    @property
    def name(self) -> str:
        """``scripted``."""
        return "scripted"

    @property
    def profile(self) -> ModelProfile:
        """As given."""
        return self._profile

    async def capacity(self, *, on_event: Callable[[ModelEvent], None] | None = None) -> ModelCapacity:
        """As given."""
        return self._capacity

    async def complete(
        self, request: ChatRequest, *, on_event: Callable[[ModelEvent], None] | None = None
    ) -> ChatReply:
        """The next reply of the script.

        Raises:
            AssertionError: The script is at its end.
        """
        index = len(self.requests)
        self.requests.append(request)
        if index >= len(self._script):
            self._failed = True
            last = request.messages[-1].text if request.messages else ""
            raise AssertionError(
                f"ScriptedModel got request {index + 1}, its script has {len(self._script)}. It ends with: {last!r}"
            )
        step = self._script[index]
        if callable(step):
            try:
                step = step(request)
            except AssertionError:
                self._failed = True
                raise
        if isinstance(step, BaseException):
            raise step
        reply = ChatReply(text=step, model=self.name) if isinstance(step, str) else step
        if self._streams and on_event is not None:
            for line in reply.text.splitlines(keepends=True):
                on_event(TextDelta(text=line))
        return reply

    def assert_done(self) -> None:
        """Fail where steps of the script were not used.

        Raises:
            AssertionError: There are such steps.
        """
        unused = self._script[len(self.requests) :]
        if unused:
            raise AssertionError(f"ScriptedModel has {len(unused)} unused steps, the first is: {unused[0]!r}")

    async def aclose(self) -> None:
        """Fail where steps were not used, unless a request was unexpected."""
        if not self._failed:
            self.assert_done()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.assert_done()
