"""The page as `bise serve` has it, with the built-in model."""

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest
from playwright.sync_api import expect


@pytest.fixture(scope="module")
def url():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([os.environ["BISE"], "serve", "--model", "builtin", "--port", str(port), "-c", "2048"], stderr=subprocess.PIPE, text=True)
    url = f"http://127.0.0.1:{port}/"
    for _ in range(200):
        try:
            urllib.request.urlopen(url + "health")
            break
        except (urllib.error.URLError, ConnectionError):
            assert server.poll() is None, server.stderr.read()
            time.sleep(0.05)
    yield url
    server.terminate()
    server.wait(5)


def get(url, **headers):
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers))


def test_only_browsers_get_the_page(url):
    assert get(url).read() == b"Ollama is running"
    page = get(url, Accept="text/html,application/xhtml+xml")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    script = get(url + "ui/main.js")
    assert script.headers["Content-Type"] == "text/javascript; charset=utf-8"
    with pytest.raises(urllib.error.HTTPError) as unchanged:
        get(url + "ui/main.js", **{"If-None-Match": script.headers["ETag"]})
    assert unchanged.value.code == 304
    for path in ["ui/nothing.js", "ui/../Cargo.toml", "ui/%2e%2e/mod.rs"]:
        with pytest.raises(urllib.error.HTTPError) as missing:
            get(url + path)
        assert missing.value.code == 404


def test_the_built_in_model_answers(context, url):
    page = context.new_page()
    page.goto(url)
    expect(page.locator("#context")).to_contain_text("of 2048 tokens")
    page.get_by_label("Message", exact=True).fill("Tell me a story about a cat.")
    page.keyboard.press("Enter")
    answer = page.locator("article.assistant")
    expect(page.get_by_role("button", name="Send", exact=True)).to_be_visible(timeout=60_000)
    story = answer.locator(".text").last.inner_text()
    assert len(story) > 20, story
    expect(page.locator("#speed")).to_contain_text("tokens a second")
    expect(answer.locator(".message-figures")).to_contain_text("tokens,")
    used = int(page.locator("#context").inner_text().split()[0])
    assert 20 < used <= 2048
    page.reload()
    assert answer.locator(".text").last.inner_text() == story
    if picture := os.environ.get("BISE_PAGE_PICTURE"):
        page.screenshot(path=picture)
