"""A server that answers as slowly, wrongly or abruptly as a test asks, behind the real page.

What the last message says decides: `slow` streams for long, `cut` ends the connection in the middle, `fail` streams an error, `think` has
reasoning first, `long` is over the context. Everything else is answered with the text of `ANSWER`.
"""

import json
import pathlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ASSETS = pathlib.Path(__file__).resolve().parents[2] / "src/server/page/assets"
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".txt": "text/plain"}
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
ANSWER = """# Wind

The **bise** is *cold*. [A link](https://example.com/) and <img src=x onerror="document.title='hacked'"> and
<script>document.title = 'hacked'</script>

| a | b |
|---|---|
| 1 | 2 |

- [x] done
- [ ] not done

```python
def wind(speed: int) -> str:
    return f"{speed} km/h"  # fast
```

The end.
"""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"
    requests: list = []
    key = None

    def log_message(self, *_):
        pass

    def reply(self, status, body, kind="application/json"):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if kind.startswith("text/html"):
            self.send_header("Content-Security-Policy", CSP)
        self.end_headers()
        self.wfile.write(body)

    def is_allowed(self):
        if self.key and self.headers.get("Authorization") != f"Bearer {self.key}":
            self.reply(401, {"error": {"code": 401, "message": "Invalid API key", "type": "authentication_error"}})
            return False
        return True

    def do_GET(self):
        path = self.path.split("?")[0]
        if path == "/health":
            self.reply(200, {"status": "ok"})
        elif path == "/v1/models":
            self.reply(200, {"object": "list", "data": [{"id": "fake", "object": "model"}, {"id": "other", "status": {"value": "unloaded"}}]})
        elif path == "/props":
            if self.is_allowed():
                self.reply(200, {"default_generation_settings": {"n_ctx": 4096}})
        else:
            file = ASSETS / (path.removeprefix("/ui/") if path != "/" else "index.html")
            if file.is_file() and ASSETS in file.resolve().parents:
                self.reply(200, file.read_bytes(), TYPES[file.suffix] + "; charset=utf-8")
            else:
                self.reply(404, {"error": {"message": "not found"}})

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.requests.append(request)
        asked = request["messages"][-1]["content"]
        if not self.is_allowed():
            return
        if "long" in asked:
            self.reply(400, {"error": {"code": 400, "message": "the prompt has 5000 tokens, the context 4096", "type": "exceed_context_size_error"}})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.stream(asked)

    def stream(self, asked):
        def send(**chunk):
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
            self.wfile.flush()

        def delta(**delta):
            send(choices=[{"index": 0, "delta": delta, "finish_reason": None}])

        try:
            delta(role="assistant", content=None)
            send(choices=[], prompt_progress={"total": 100, "cache": 10, "processed": 50, "time_ms": 5})
            if "think" in asked:
                for word in "Hmm, let me see. ".split(" "):
                    delta(reasoning_content=word + " ")
            if "fail" in asked:
                send(error={"code": 500, "message": "activations are not finite", "type": "server_error"})
                return
            n = 2000 if "slow" in asked else 1
            for i in range(n):
                text = f"word{i} " if n > 1 else ANSWER
                for at in range(0, len(text), 7):
                    delta(content=text[at:at + 7])
                if n > 1:
                    time.sleep(0.01)
                if "cut" in asked:
                    return
            send(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
            timings = {"cache_n": 10, "prompt_n": 90, "predicted_n": 40, "predicted_per_second": 12.34}
            send(choices=[], usage={"prompt_tokens": 100, "completion_tokens": 40, "total_tokens": 140}, timings=timings)
            self.wfile.write(b"data: [DONE]\n\n")
        except (BrokenPipeError, ConnectionResetError):
            self.requests.append("gone")


def start(key=None):
    """A running server, and its address."""
    handler = type("Handler", (Handler,), {"requests": [], "key": key})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, handler, f"http://127.0.0.1:{server.server_port}/"


if __name__ == "__main__":
    print(start()[2], flush=True)
    threading.Event().wait()
