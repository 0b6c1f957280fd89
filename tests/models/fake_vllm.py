"""A command that behaves like `vllm serve` in what a supervisor sees of it. Usage: fake_vllm.py MODE serve MODEL …

MODE is `good`; `slow` (healthy only after a minute); `dies` (ends before it is healthy); `dies-later` (ends when
asked for a reply). It writes the ids of its processes to $FAKE_VLLM_PIDS; two of them ignore SIGTERM, one of those in
a session of its own.
"""

import http.server
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/health":
            return self.send(200, {})
        if self.headers["Authorization"] != f"Bearer {os.environ['VLLM_API_KEY']}":
            return self.send(401, {"error": {"message": "Unauthorized"}})
        card = {"id": MODEL, "object": "model", "created": 0, "owned_by": "vllm", "root": MODEL, "max_model_len": 4096}
        return self.send(200, {"object": "list", "data": [card]})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if MODE == "dies-later":
            print("RuntimeError: the engine is gone", file=sys.stderr, flush=True)
            os._exit(3)
        reply = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "<answer>A</answer>"}}
        usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        body = {"id": "x", "object": "chat.completion", "created": 0, "model": MODEL, "choices": [reply]}
        self.send(200, body | {"usage": usage})

    def send(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


MODE, _, MODEL = sys.argv[1:4]
PORT = int(sys.argv[sys.argv.index("--port") + 1])

if __name__ == "__main__":
    print("arguments:", json.dumps(sys.argv[4:]), flush=True)
    same_session = subprocess.Popen([sys.executable, "-c", STUBBORN])
    own_session = subprocess.Popen([sys.executable, "-c", STUBBORN], start_new_session=True)
    pids = [os.getpid(), same_session.pid, own_session.pid]
    ready = Path(os.environ["FAKE_VLLM_PIDS"])
    ready.with_suffix(".part").write_text(json.dumps(pids))
    ready.with_suffix(".part").rename(ready)
    if MODE == "dies":
        print("Traceback (most recent call last):\nValueError: no such architecture", file=sys.stderr, flush=True)
        sys.exit(1)
    if MODE == "slow":
        time.sleep(60)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
