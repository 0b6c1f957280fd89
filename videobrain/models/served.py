"""What servers say that they serve, and whether it is one model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import anyio

from videobrain.errors import ConfigurationError, ModelTimeoutError, RequestRejectedError
from videobrain.models.endpoint import Endpoint, Refusal
from videobrain.models.failures import unknown_model
from videobrain.models.retry import PassingFailure
from videobrain.models.wire import ModelList

LOOK_SECONDS = 10.0
"""Time in which one of several servers has to say what it serves."""


class Served(NamedTuple):
    """What a server says of a model."""

    model: str
    """Name under which it is served."""
    names: tuple[str, ...]
    """Names of all models of the server."""
    root: str | None
    """What the name stands for."""
    max_model_len: int | None
    """Context in tokens."""
    is_vllm: bool


async def ask_served(
    endpoint: Endpoint, refusal: Refusal, *, model: str | None, seconds: float | None
) -> Served | None:
    """What a server serves; None where it does not say and, since a model is named, need not.

    Args:
        endpoint: Where it is.
        refusal: Makes errors of its refusals.
        model: The model that is meant; None: the only one that it has.
        seconds: Time that it has; None: that of any request.

    Raises:
        PassingFailure: It cannot be asked just now.
        ConfigurationError: No model was named and the server does not serve exactly one.
        UnknownModelError: The server is vLLM and does not serve the model.
        RequestRejectedError: It refuses, and that matters.
    """
    with anyio.move_on_after(seconds):
        try:
            answer = await endpoint.get("/models", refusal)
        except RequestRejectedError as error:
            # A wrong key is told at once; other refusals need not hold for replies.
            if model is None or error.status == 401:
                raise
            return None
        try:
            listing = endpoint.parsed(ModelList, answer, "list of models")
        except PassingFailure:
            if model is None:
                raise
            return None
        return read_listing(listing, model=model, server=endpoint.called)
    raise PassingFailure(ModelTimeoutError, f"{endpoint} did not say within {seconds:g} s what it serves.")


def read_listing(listing: ModelList, *, model: str | None, server: str) -> Served:
    """What a server's list of models says of the model that is meant.

    Args:
        listing: The list.
        model: Its name; None: the only one that the server has.
        server: What the server is called in errors.

    Raises:
        ConfigurationError: No model was named and the server does not serve exactly one.
        UnknownModelError: The server is vLLM and does not serve the model.
    """
    names = tuple(card.id for card in listing.data)
    is_vllm = any(card.owned_by == "vllm" for card in listing.data)
    if model is None:
        if len(names) != 1:
            listed = ", ".join(f"openai:{name}" for name in names[:20]) or "none"
            raise ConfigurationError(f"{server} serves {len(names)} models: {listed}.", hint="Name one with --model.")
        model = names[0]
    card = next((card for card in listing.data if card.id == model), None)
    if card is None and is_vllm:  # other servers may serve more than they list
        raise unknown_model(model, names, said=f"{server} does not serve a model named {model!r}.")
    return Served(
        model=model,
        names=names,
        root=card.root if card else None,
        max_model_len=card.max_model_len if card else None,
        is_vllm=is_vllm,
    )


def agreed(served: Mapping[str, Served]) -> Served:
    """What holds for all of the servers.

    Args:
        served: What each says, by what it is called in errors; at least one.

    Raises:
        ConfigurationError: They serve different models.
    """
    (first_server, first), *others = served.items()
    rooted = first_server
    for server, other in others:
        if other.model != first.model:
            raise ConfigurationError(
                f"{first_server} serves {first.model!r}, but {_within(server)} serves {other.model!r}.",
                hint="Several addresses are for one model. Name it with --model, or leave an address out.",
            )
        if first.root and other.root and first.root != other.root:
            raise ConfigurationError(
                f"{first.model!r} stands for {first.root!r} on {_within(rooted)}, "
                f"but for {other.root!r} on {_within(server)}.",
                hint="Several addresses are for one model. Serve it from the same place on all of them.",
            )
        rooted = rooted if first.root else server
        first = first._replace(
            names=tuple(name for name in first.names if name in other.names),
            root=first.root or other.root,
            max_model_len=min((n for n in (first.max_model_len, other.max_model_len) if n is not None), default=None),
            is_vllm=first.is_vllm and other.is_vllm,
        )
    return first


def _within(server: str) -> str:
    """Its name within a sentence."""
    return server[:1].lower() + server[1:]
