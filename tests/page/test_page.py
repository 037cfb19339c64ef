"""The chat page in a real browser, against a server that does what each test asks of it."""

import json
import re

import fake_server
from playwright.sync_api import expect


def send(page, text):
    page.get_by_label("Message", exact=True).fill(text)
    page.keyboard.press("Enter")


def answers(page):
    return page.locator("article.assistant")


def finished(page):
    expect(page.get_by_role("button", name="Send", exact=True)).to_be_visible()


def test_an_answer_is_streamed_and_rendered(page, fake):
    send(page, "Tell me about the wind")
    answer = answers(page)
    expect(answer.get_by_role("heading", name="Wind")).to_be_visible()
    finished(page)
    expect(answer.locator("strong")).to_have_text("bise")
    expect(answer.locator("table td")).to_have_text(["1", "2"])
    expect(answer.locator(".code-bar span")).to_have_text("python")
    expect(answer.locator(".hljs-keyword").first).to_have_text("def")
    expect(answer.locator("li")).to_have_text(["☑ done", "☐ not done"])
    link = answer.get_by_role("link", name="A link")
    assert link.get_attribute("rel") == "noopener noreferrer"
    expect(page.locator("#speed")).to_have_text("12.3 tokens a second")
    expect(page.locator("#context")).to_have_text("140 of 4096 tokens")
    expect(page.locator("#announcer")).to_have_text("Answer complete.")
    [request] = fake[0].requests
    assert request["messages"] == [{"role": "user", "content": "Tell me about the wind"}]
    assert request["model"] == "fake" and request["stream"] and "temperature" not in request


def test_html_in_an_answer_is_text(page):
    send(page, "Tell me")
    finished(page)
    answer = answers(page)
    expect(answer.locator("img, script")).to_have_count(0)
    expect(answer).to_contain_text("<script>document.title = 'hacked'</script>")
    assert "hacked" not in page.title()


def test_the_policy_allows_no_inline_script(page, fake):
    response = page.request.get(fake[1])
    policy = response.headers["content-security-policy"]
    assert "script-src 'self'" in policy and "unsafe" not in policy
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|style=", response.text())


def test_code_is_copied(page, context):
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    send(page, "Tell me")
    finished(page)
    page.get_by_role("button", name="Copy code").click()
    expect(page.locator("#announcer")).to_have_text("Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == 'def wind(speed: int) -> str:\n    return f"{speed} km/h"  # fast'


def test_an_answer_can_be_stopped_and_is_kept(page, fake):
    send(page, "slow please")
    expect(answers(page)).to_contain_text("word5 ")
    page.keyboard.press("Escape")
    finished(page)
    expect(answers(page).locator(".note")).to_have_text("Stopped.")
    page.wait_for_timeout(300)
    assert fake[0].requests[-1] == "gone", "the server is told"
    page.reload()
    expect(answers(page)).to_contain_text("word5 ")


def test_a_reload_in_mid_answer_keeps_what_was_written(page):
    send(page, "slow please")
    expect(answers(page)).to_contain_text("word200 ", timeout=20_000)
    page.reload()
    expect(answers(page)).to_contain_text("word50 ")
    expect(answers(page).locator(".note")).to_have_text("Cut off: the page was closed.")


def test_regenerated_answers_and_edited_messages_are_branches(page, fake):
    send(page, "first question")
    finished(page)
    answers(page).get_by_role("button", name="Regenerate").click()
    finished(page)
    versions = answers(page).locator(".versions span")
    expect(versions).to_have_text("2/2")
    answers(page).get_by_role("button", name="Previous version").click()
    expect(versions).to_have_text("1/2")
    send(page, "second question")
    finished(page)
    expect(answers(page)).to_have_count(2)

    question = page.locator("article.user").first
    question.get_by_role("button", name="Edit").click()
    page.get_by_label("Edited message").fill("another question")
    page.keyboard.press("Control+Enter")
    finished(page)
    expect(answers(page)).to_have_count(1)
    assert fake[0].requests[-1]["messages"] == [{"role": "user", "content": "another question"}]
    page.locator("article.user").get_by_role("button", name="Previous version").click()
    expect(answers(page)).to_have_count(2)
    expect(page.locator("article.user > .text")).to_have_text(["first question", "second question"])
    page.reload()
    expect(answers(page)).to_have_count(2)


def test_the_arrow_up_edits_the_last_message(page):
    send(page, "one")
    finished(page)
    page.get_by_label("Message", exact=True).press("ArrowUp")
    expect(page.get_by_label("Edited message")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("article.user > .text")).to_have_text("one")


def test_conversations_are_found_renamed_and_deleted(page):
    for text in ["Alpine winds", "Baking bread"]:
        page.keyboard.press("Control+Shift+O")
        send(page, text)
        finished(page)
    titles = page.locator("#conversations .open")
    expect(titles).to_have_text(["Baking bread", "Alpine winds"])
    page.keyboard.press("Control+k")
    page.keyboard.type("alpine")
    expect(titles).to_have_text(["Alpine winds"])
    page.keyboard.press("Escape")
    expect(titles).to_have_count(2)

    titles.last.click()
    expect(page.locator("article.user > .text")).to_have_text("Alpine winds")
    page.get_by_role("button", name="Rename: Alpine winds").click()
    page.get_by_label("Name", exact=True).fill("Mountains")
    page.keyboard.press("Enter")
    expect(titles).to_have_text(["Baking bread", "Mountains"])
    page.get_by_role("button", name="Delete: Mountains").click()
    page.locator("#ask").get_by_role("button", name="Delete").click()
    expect(titles).to_have_text(["Baking bread"])
    expect(page.locator("article")).to_have_count(0)


def test_conversations_are_exported_and_imported(page, context, fake, tmp_path):
    send(page, "Alpine winds")
    finished(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Export: Alpine winds").click()
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    assert path.name == "Alpine-winds.json"
    exported = json.loads(path.read_text())
    assert exported["conversations"][0]["title"] == "Alpine winds"

    page.get_by_role("button", name="Delete: Alpine winds").click()
    page.locator("#ask").get_by_role("button", name="Delete").click()
    expect(page.locator("#conversations .open")).to_have_count(0)
    page.locator("#import-file").set_input_files(path)
    page.locator("#conversations .open").click()
    expect(answers(page).get_by_role("heading", name="Wind")).to_be_visible()

    node = next(iter(exported["conversations"][0]["nodes"].values()))
    for broken, why in [
        ("{", "could not be imported"),
        ('{"a": 1}', 'expected "conversations"'),
        (json.dumps({"conversations": [{"id": "x", "nodes": {"a": {**node, "id": "a", "parent": "a"}}, "leaf": "a"}]}), "follows itself"),
        (json.dumps({"conversations": [{"id": "x", "nodes": {}, "leaf": "a"}]}), "not there"),
    ]:
        bad = tmp_path / "bad.json"
        bad.write_text(broken)
        page.locator("#import-file").set_input_files(bad)
        expect(page.locator(".notice").last).to_contain_text(why)


def test_text_files_go_along(page, fake, tmp_path):
    (tmp_path / "notes.md").write_text("Some\n```\ncode\n```\n")
    (tmp_path / "photo.bin").write_bytes(b"\x00\x01\xff")
    page.locator("#attach-file").set_input_files([tmp_path / "notes.md", tmp_path / "photo.bin"])
    expect(page.locator("#files li")).to_have_count(1)
    expect(page.locator(".notice")).to_contain_text("photo.bin is not a text file")
    send(page, "Summarize")
    finished(page)
    content = fake[0].requests[-1]["messages"][0]["content"]
    assert content == "File notes.md:\n````\nSome\n```\ncode\n```\n\n````\n\nSummarize"
    expect(page.locator("article.user .files li")).to_have_text("notes.md")


def test_files_can_be_dropped(page):
    transfer = page.evaluate_handle(
        "() => { const t = new DataTransfer(); t.items.add(new File(['hello'], 'a.txt', { type: 'text/plain' })); return t; }"
    )
    page.dispatch_event("body", "dragenter", {"dataTransfer": transfer})
    expect(page.locator("#drop")).to_be_visible()
    page.dispatch_event("body", "drop", {"dataTransfer": transfer})
    expect(page.locator("#drop")).to_be_hidden()
    expect(page.locator("#files li")).to_contain_text("a.txt")


def test_settings_are_sent_and_kept(page, fake):
    page.keyboard.press("Control+,")
    page.get_by_label("System prompt").fill("Be brief.")
    page.get_by_role("combobox", name="Preset").select_option("Precise")
    expect(page.get_by_label("Temperature")).to_have_value("0.2")
    page.get_by_label("Seed").fill("7")
    page.get_by_label("Seed").press("Tab")
    expect(page.get_by_role("combobox", name="Preset")).to_have_value("")
    page.get_by_role("button", name="Save as preset…").click()
    page.get_by_label("Name", exact=True).fill("Mine")
    page.keyboard.press("Enter")
    expect(page.get_by_role("combobox", name="Preset")).to_have_value("Mine")
    page.get_by_label("Theme").select_option("dark")
    page.get_by_role("button", name="Done").click()
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    send(page, "Hello")
    finished(page)
    request = fake[0].requests[-1]
    assert request["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (request["temperature"], request["top_p"], request["seed"]) == (0.2, 0.9, 7)


def test_another_model_can_be_chosen(page, fake):
    page.get_by_label("Model", exact=True).select_option("other")
    send(page, "Hello")
    finished(page)
    assert fake[0].requests[-1]["model"] == "other"


def test_thoughts_are_folded(page):
    send(page, "think about it")
    finished(page)
    thoughts = answers(page).locator("details.reasoning")
    expect(thoughts.locator("summary")).to_have_text("Thoughts")
    expect(thoughts.locator(".text")).to_be_hidden()
    thoughts.locator("summary").click()
    expect(thoughts.locator(".text")).to_contain_text("Hmm, let me see.")


def test_faults_are_said_where_they_happen(page, context):
    context.expected = ["400 (Bad Request)"]
    for text, why in [
        ("cut", "The answer was cut off: the connection to the server ended."),
        ("fail", "activations are not finite"),
        ("long", "the prompt has 5000 tokens, the context 4096"),
    ]:
        page.keyboard.press("Control+Shift+O")
        send(page, text)
        finished(page)
        expect(answers(page).locator(".note.failed")).to_have_text(why)
        answers(page).get_by_role("button", name="Regenerate").click()
        finished(page)
        expect(answers(page).locator(".versions span")).to_have_text("2/2")


def test_an_api_key_is_asked_for_and_sent(context):
    context.expected = ["401 (Unauthorized)"]
    server, handler, url = fake_server.start(key="secret")
    page = context.new_page()
    page.goto(url)
    expect(page.locator("#model-status")).to_have_text("API key needed")
    send(page, "Hello")
    expect(answers(page).locator(".note.failed")).to_have_text("Invalid API key")
    page.get_by_role("button", name="Settings", exact=True).click()
    page.get_by_label("API key").fill("secret")
    page.get_by_role("button", name="Done").click()
    expect(page.locator("#model-status")).to_have_text("")
    answers(page).get_by_role("button", name="Regenerate").click()
    expect(answers(page).get_by_role("heading", name="Wind")).to_be_visible()
    server.shutdown()


def test_a_server_that_is_gone_is_noticed(page, context, fake):
    context.expected = ["ERR_CONNECTION_REFUSED"]
    server = fake_server.start()
    page.goto(server[2])
    expect(page.locator("#context")).to_have_text("0 of 4096 tokens")
    server[0].shutdown()
    server[0].server_close()
    send(page, "Hello")
    expect(answers(page).locator(".note.failed")).to_have_text("The server does not answer. Is it still running?")


def test_a_phone_shows_the_conversation_first(page):
    page.set_viewport_size({"width": 390, "height": 760})
    page.reload()
    expect(page.locator("#sidebar")).to_be_hidden()
    send(page, "Hello")
    finished(page)
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 390, "nothing sticks out"
    page.get_by_role("button", name="Show or hide conversations").click()
    expect(page.locator("#sidebar")).to_be_visible()
    page.locator("#conversations .open").click()
    expect(page.locator("#sidebar")).to_be_hidden()


def test_everything_has_a_name_and_enough_contrast(page):
    send(page, "Hello")
    finished(page)
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll('button, input, select, textarea, [role]')]
            .filter((e) => e.offsetParent !== null && !(e.getAttribute('aria-label') || e.labels?.length || e.textContent.trim()))
            .filter((e) => e.id !== 'notices' && e.id !== 'announcer' && e.getAttribute('role') !== 'status')
            .map((e) => e.outerHTML)"""
    )
    assert not unnamed, unnamed
    for scheme in ["light", "dark"]:
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(50)
        for selector in ["body", "#figures", ".under button", "button.primary", ".hljs-comment", ".code-bar"]:
            ratio = page.evaluate(CONTRAST, selector)
            assert ratio >= 4.5, f"{selector} in {scheme}: {ratio:.2f}"


CONTRAST = """(selector) => {
    const element = document.querySelector(selector);
    const light = (color) => {
        const [r, g, b] = color.match(/[\\d.]+/g).map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    let behind = element;
    while (/^rgba\\(.*, 0\\)$|transparent/.test(getComputedStyle(behind).backgroundColor)) behind = behind.parentElement;
    const [a, b] = [light(getComputedStyle(element).color), light(getComputedStyle(behind).backgroundColor)].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
}"""
