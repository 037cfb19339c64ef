#!/usr/bin/env python3
"""The cache that bise and huggingface_hub share, checked with the real package: each finds what the other fetched.

    tests/hub_cache.py target/debug/bise

Needs huggingface_hub and openssl. A server on this machine takes the hub's place, once with TLS.
"""

import hashlib
import http.server
import json
import os
import pathlib
import ssl
import subprocess
import sys
import tempfile
import threading

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = "user/repo"
FILES = {name: os.urandom(size) for name, size in [("m-Q4_K_M.gguf", 3_000_000), ("sub/m-Q8_0.gguf", 70_000), ("m-Q2_K.gguf", 50_000)]}
served = []


class Hub(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body, headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        path = self.path.split("?")[0]
        if path in (f"/api/models/{REPO}/revision/main", f"/api/models/{REPO}"):
            siblings = [
                {"rfilename": name, "size": len(data), "blobId": "ab" * 20,
                 "lfs": {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}}
                for name, data in FILES.items()
            ]
            body = json.dumps({"_id": "1", "id": REPO, "sha": COMMIT, "siblings": siblings}).encode()
            return self.answer(200, body, [("Content-Type", "application/json")])
        for revision in ("main", COMMIT):
            name = path.removeprefix(f"/{REPO}/resolve/{revision}/")
            if name in FILES:
                return self.file(name)
        self.answer(404, b"", [("X-Error-Code", "EntryNotFound")])

    do_HEAD = do_GET

    def file(self, name):
        data = FILES[name]
        sha = hashlib.sha256(data).hexdigest()
        headers = [("X-Repo-Commit", COMMIT), ("X-Linked-Etag", f'"{sha}"'), ("X-Linked-Size", str(len(data))), ("ETag", f'"{sha}"'), ("Accept-Ranges", "bytes")]
        status, body = 200, data
        if "Range" in self.headers:
            first, last = self.headers["Range"].removeprefix("bytes=").split("-")
            first, last = int(first), min(int(last or len(data) - 1), len(data) - 1)
            status, body = 206, data[first : last + 1]
            headers.append(("Content-Range", f"bytes {first}-{last}/{len(data)}"))
        if self.command == "GET":
            served.append((name, len(body)))
        self.answer(status, body, headers)


def start(context=None):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"{'https' if context else 'http'}://localhost:{server.server_address[1]}"


def main():
    bise = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        home = pathlib.Path(folder)
        plain = start()
        os.environ.update(HF_ENDPOINT=plain, HF_HOME=str(home / "hf"), HF_HUB_DISABLE_XET="1", HF_HUB_DISABLE_TELEMETRY="1")
        for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy"):
            os.environ.pop(name, None)
        # It reads its variables when it is imported.
        from huggingface_hub import hf_hub_download, scan_cache_dir, try_to_load_from_cache

        def run(*args, **variables):
            env = {**os.environ, "HOME": folder, **variables}
            return subprocess.run([bise, *args], check=True, capture_output=True, text=True, env=env)

        # What bise fetches, huggingface_hub finds.
        run("pull", f"hf.co/{REPO}")
        found = hf_hub_download(REPO, "m-Q4_K_M.gguf", local_files_only=True)
        assert pathlib.Path(found).read_bytes() == FILES["m-Q4_K_M.gguf"]
        assert try_to_load_from_cache(REPO, "m-Q4_K_M.gguf") == found
        served.clear()
        assert hf_hub_download(REPO, "m-Q4_K_M.gguf") == found
        assert served == [], served

        # What huggingface_hub fetches, bise finds.
        theirs = hf_hub_download(REPO, "sub/m-Q8_0.gguf")
        served.clear()
        ran = run("pull", f"hf.co/{REPO}:Q8_0")
        assert served == [], served
        assert theirs in ran.stderr, ran.stderr
        listed = run("list").stdout
        assert f"hf.co/{REPO}:Q8_0" in listed and f"hf.co/{REPO}:Q4_K_M" in listed, listed

        cache = scan_cache_dir()
        assert not cache.warnings, cache.warnings
        (repo,) = cache.repos
        assert {file.file_name for revision in repo.revisions for file in revision.files} == {"m-Q4_K_M.gguf", "m-Q8_0.gguf"}

        # With TLS: only a certificate that is trusted is accepted.
        key, certificate = home / "key.pem", home / "certificate.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
             "-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE",
             "-keyout", key, "-out", certificate],
            check=True, capture_output=True,
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        secure = start(context)
        try:
            run("pull", f"hf.co/{REPO}:Q2_K", HF_ENDPOINT=secure)
            raise SystemExit("a certificate that nobody vouches for was accepted")
        except subprocess.CalledProcessError as error:
            assert "certificate was not accepted" in error.stderr, error.stderr
        run("pull", f"hf.co/{REPO}:Q2_K", HF_ENDPOINT=secure, SSL_CERT_FILE=str(certificate))
        assert pathlib.Path(hf_hub_download(REPO, "m-Q2_K.gguf", local_files_only=True)).read_bytes() == FILES["m-Q2_K.gguf"]
    import huggingface_hub

    print(f"huggingface_hub {huggingface_hub.__version__}: the cache is shared")


if __name__ == "__main__":
    main()
