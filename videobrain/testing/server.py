"""A model server that says what the test tells it to, and fails as the test tells it to."""

from __future__ import annotations

import json
import select
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self, cast

from videobrain.models.messages import ChatReply
from videobrain.testing.faults import Fault, completion, error_body, stream_events

ServerReply = str | ChatReply | Fault
ServerStep = ServerReply | Callable[[dict[str, Any]], ServerReply]
"""A reply's text, a whole reply, a fault, or a function of the request's body that gives one of these."""

_POLL_SECONDS = 0.005


@dataclass(frozen=True)
class ServerRequest:
    """A request as it came in.

    Attributes:
        method: ``GET`` or ``POST``.
        path: Such as ``/v1/chat/completions``.
        headers: With lower-case names.
        body: The parsed JSON, empty for GET.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]


class FakeServer:
    """An HTTP server on this machine that speaks chat completions as vLLM does, by a script.

    It runs in threads of its own while the context is entered, and answers each request to ``/v1/chat/completions``
    with the next step of the script. A wrong model, API key, or number of images is refused in vLLM's words without
    using up a step. A request that the script has no step for is refused, and the test fails with `AssertionError`
    when the context ends; so it does where steps were not used.

        with FakeServer(["<answer>B</answer>", Fault.status(503)]) as server:
            model = OpenAIModel(None, base_url=server.base_url)

    Args:
        script: The answers; a function in place of the list answers every request.
        models: Names that it serves.
        max_model_len: Context that ``/v1/models`` claims; None leaves it out.
        owned_by: What ``/v1/models`` claims to be; vLLM says ``vllm``.
        api_key: The key that it wants, if any.
        max_images: Images that one request may hold.
        model_faults: Faults for the first requests to ``/v1/models``.
    """

    def __init__(
        self,
        script: Iterable[ServerStep] | Callable[[dict[str, Any]], ServerReply] = (),
        *,
        models: Iterable[str] = ("fake-model",),
        max_model_len: int | None = 32768,
        owned_by: str = "vllm",
        api_key: str | None = None,
        max_images: int | None = None,
        model_faults: Iterable[Fault] = (),
    ) -> None:
        self._always = script if callable(script) else None
        self._script: list[ServerStep] = [] if callable(script) else list(script)
        self._used = 0
        self._unexpected = 0
        self._models = tuple(models)
        self._max_model_len = max_model_len
        self._owned_by = owned_by
        self._api_key = api_key
        self._max_images = max_images
        self._model_faults = list(model_faults)
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._http: _Http | None = None
        self._thread: threading.Thread | None = None
        self.stopping = threading.Event()
        self.connections_made = 0
        self.all_requests: list[ServerRequest] = []

    @property
    def base_url(self) -> str:
        """Address for `OpenAIModel` and ``OPENAI_BASE_URL``."""
        if self._http is None:
            raise RuntimeError("the server runs only inside its with block")
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    @property
    def requests(self) -> list[dict[str, Any]]:
        """Bodies of all chat requests so far, refused ones included."""
        with self._lock:
            return [request.body for request in self.all_requests if request.path == "/v1/chat/completions"]

    @property
    def open_connections(self) -> int:
        """Connections that are open now."""
        with self._lock:
            return len(self._connections)

    def assert_done(self) -> None:
        """Fail where a request was unexpected or steps were not used.

        Raises:
            AssertionError: It was so.
        """
        if self._unexpected:
            raise AssertionError(
                f"FakeServer got {self._unexpected} more requests than the {len(self._script)} of its script"
            )
        unused = self._script[self._used :]
        if unused:
            raise AssertionError(f"FakeServer has {len(unused)} unused steps, the first is: {unused[0]!r}")

    def __enter__(self) -> Self:
        self._http = _Http(self)
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": _POLL_SECONDS}, name="FakeServer"
        )
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stopping.set()
        if self._http is not None and self._thread is not None:
            self._http.shutdown()
            with self._lock:
                for connection in self._connections:
                    _shut(connection)
            self._http.server_close()  # waits for the threads of all connections
            self._thread.join()
        if error is None:
            self.assert_done()

    # For the handlers, each in its own thread

    def opened(self, connection: socket.socket) -> None:
        """A connection was made."""
        with self._lock:
            self.connections_made += 1
            self._connections.add(connection)

    def closed(self, connection: socket.socket) -> None:
        """A connection has ended."""
        with self._lock:
            self._connections.discard(connection)

    def answer(self, request: ServerRequest) -> Fault:
        """The answer to a request; good ones are "faults" of status 200."""
        with self._lock:
            self.all_requests.append(request)
            if self._api_key is not None and request.headers.get("authorization") != f"Bearer {self._api_key}":
                return Fault.unauthorized()
            if request.path == "/v1/models":
                return self._model_faults.pop(0) if self._model_faults else self._listing()
            if request.path == "/health":
                return Fault.status(200, "")
            if (request.method, request.path) != ("POST", "/v1/chat/completions"):
                return Fault.status(404, {"detail": "Not Found"})
            refused = self._refused(request.body)
            if refused is not None:
                return refused
            step: ServerStep
            if self._always is not None:
                step = self._always
            elif self._used < len(self._script):
                step = self._script[self._used]
                self._used += 1
            else:
                self._unexpected += 1
                return Fault.status(400, error_body("FakeServer: the script has no step for this request.", 400))
        reply = step(request.body) if callable(step) else step
        return reply if isinstance(reply, Fault) else self._good(reply, request.body)

    def _refused(self, body: dict[str, Any]) -> Fault | None:
        model = body.get("model")
        if model and model not in self._models:
            return Fault.unknown_model(model)
        images = sum(
            part.get("type") == "image_url"
            for message in body.get("messages", ())
            if isinstance(message.get("content"), list)
            for part in message["content"]
        )
        if self._max_images is not None and images > self._max_images:
            return Fault.image_limit(self._max_images)
        return None

    def _listing(self) -> Fault:
        entries: list[dict[str, Any]] = [
            {"id": name, "object": "model", "created": 0, "owned_by": self._owned_by} for name in self._models
        ]
        if self._owned_by == "vllm":
            for entry in entries:
                entry |= {"root": entry["id"], "parent": None, "max_model_len": self._max_model_len}
        return Fault.status(200, {"object": "list", "data": entries})

    def _good(self, reply: str | ChatReply, body: dict[str, Any]) -> Fault:
        if isinstance(reply, str):
            reply = ChatReply(text=reply, input_tokens=10, output_tokens=len(reply.split()))
        model = str(body.get("model") or self._models[0])
        if body.get("stream"):
            with_usage = bool((body.get("stream_options") or {}).get("include_usage"))
            return Fault(events=stream_events(reply, model, with_usage=with_usage))
        return Fault.status(200, completion(reply, model))


class _Http(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    request_queue_size = 128

    def __init__(self, owner: FakeServer) -> None:
        self.owner = owner
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that the client drops are no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    @property
    def _owner(self) -> FakeServer:
        return cast(_Http, self.server).owner

    def setup(self) -> None:
        super().setup()
        self._owner.opened(self.connection)

    def finish(self) -> None:
        self._owner.closed(self.connection)
        super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        """Tests want no access log."""

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length", 0))
        try:
            body = json.loads(self.rfile.read(length) or b"{}")
        except ValueError:
            body = {}
        self._answer(body if isinstance(body, dict) else {})

    def _answer(self, body: dict[str, Any]) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        fault = self._owner.answer(ServerRequest(self.command, self.path.partition("?")[0], headers, body))
        if fault.breaks == "before_headers":
            self._break_off(fault)
            return
        if fault.delay_seconds and self._gone(fault.delay_seconds):
            return
        payload = fault.payload(streamed=bool(body.get("stream")))
        self.send_response(fault.code)
        for name, value in fault.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(payload)))
        self.end_headers()
        if fault.breaks is not None:
            if fault.breaks == "mid_body":
                self.wfile.write(payload[: len(payload) // 2])
            self._break_off(fault)
            return
        self.wfile.write(payload)

    def _break_off(self, fault: Fault) -> None:
        self.close_connection = True
        if fault.hangs:
            self._gone(None)
        _shut(self.connection)

    def _gone(self, seconds: float | None) -> bool:
        """Wait; whether the client or the server went away meanwhile."""
        waited = 0.0
        while seconds is None or waited < seconds:
            if self._owner.stopping.wait(_POLL_SECONDS):
                break
            waited += _POLL_SECONDS
            readable, _, _ = select.select([self.connection], [], [], 0)
            if readable and not self.connection.recv(1, socket.MSG_PEEK):
                break
        else:
            return False
        self.close_connection = True
        return True


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the other side was faster
