"""The page as `bise serve` has it, with the built-in model."""

import os
import pathlib
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


@pytest.fixture(scope="module")
def router(tmp_path_factory):
    """A server of several models, of which none is loaded."""
    home = tmp_path_factory.mktemp("home")
    models = home / "models"
    models.mkdir()
    tiny = pathlib.Path(__file__).parents[2] / "models/tiny/bise-tiny.Q4_K_M.gguf"
    (models / "first.gguf").write_bytes(tiny.read_bytes())
    (models / "second.gguf").write_bytes(tiny.read_bytes())
    (models / "torn.gguf").write_bytes(tiny.read_bytes()[:10_000])
    command = [os.environ["BISE"], "serve", "--models-dir", str(models), "--port", "0", "-c", "1024"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "HOME": str(home), "HF_HOME": str(home)})
    line = next(line for line in server.stderr if line.startswith("listening on "))
    yield line.removeprefix("listening on ").strip() + "/"
    server.terminate()
    server.communicate(timeout=5)


def test_the_picker_tells_which_models_are_loaded(context, router):
    context.expected = ["500 (Internal Server Error)"]
    page = context.new_page()
    page.goto(router)
    picker = page.locator("#model")
    expect(picker.locator("option")).to_have_text(["first (unloaded)", "second (unloaded)", "torn (unloaded)", "builtin (unloaded)"])
    picker.select_option("second")
    page.get_by_label("Message", exact=True).fill("Hello")
    page.keyboard.press("Enter")
    expect(picker.locator("option").nth(1)).to_have_text("second", timeout=60_000)
    expect(page.get_by_role("button", name="Send", exact=True)).to_be_visible(timeout=60_000)
    expect(page.locator("#context")).to_contain_text("of 1024 tokens")
    picker.select_option("torn")
    page.get_by_label("Message", exact=True).fill("Hello")
    page.keyboard.press("Enter")
    expect(page.locator("article.assistant").last).to_contain_text("cannot be opened")
    expect(picker.locator("option").nth(2)).to_have_text("torn (failed)")


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
