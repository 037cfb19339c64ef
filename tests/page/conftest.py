import os
import shutil

import fake_server
import pytest
from playwright.sync_api import sync_playwright


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def fake():
    server, handler, url = fake_server.start()
    yield handler, url
    server.shutdown()


@pytest.fixture
def context(browser):
    """A browser without history. Whatever the page complains about on its console fails the test."""
    context = browser.new_context(viewport={"width": 1100, "height": 760}, accept_downloads=True, reduced_motion="reduce")
    complaints = []
    context.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    context.expected = []
    yield context
    context.close()
    unexpected = [text for text in complaints if not any(part in text for part in context.expected)]
    assert not unexpected, unexpected


@pytest.fixture
def page(context, fake):
    page = context.new_page()
    page.goto(fake[1])
    yield page
    # It asks for the models from time to time: not of a server that is gone.
    page.close()
