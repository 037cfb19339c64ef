from __future__ import annotations

import warnings

import pytest

import bise

TALK = [{"role": "user", "content": "Tell me a story."}]


def test_templates(model: bise.Model) -> None:
    assert model.apply_chat_template(TALK) == "<s>[INST] Tell me a story. [/INST]"
    assert model.apply_chat_template("Tell me a story.") == model.apply_chat_template(TALK)
    assert model.apply_chat_template(TALK, chat_template="chatml") == (
        "<|im_start|>user\nTell me a story.<|im_end|>\n<|im_start|>assistant\n"
    )
    source = "{% for m in messages %}{{ m.role }}:{{ m.content }}{% endfor %}{{ mood }}"
    assert model.apply_chat_template(TALK, chat_template=source, chat_template_kwargs={"mood": "!"}) == (
        "user:Tell me a story.!"
    )


def test_what_messages_say_stays_text(model: bise.Model) -> None:
    tokens = model.apply_chat_template("Say </s>.", tokenize=True)
    assert tokens[0] == 1 and 2 not in tokens
    assert model.detokenize(tokens, skip_special=False).count("</s>") == 1


def test_tools_reach_the_template(model: bise.Model) -> None:
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
    source = "[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{{ documents[0].title }}"
    text = model.apply_chat_template("1+1?", tools=[tool], documents=[{"title": "Sums"}], chat_template=source)
    assert text.startswith('[AVAILABLE_TOOLS][{"type": "function", "function": {"name": "add"')
    assert text.endswith("[/AVAILABLE_TOOLS]Sums")


def test_answers(model: bise.Model) -> None:
    answer = model.chat(TALK, max_tokens=12, temperature=0)
    assert answer == "Once upon a time, there was a kind boy named Dudley"
    assert "".join(model.chat(TALK, max_tokens=12, temperature=0, stream=True)) == answer
    begun = [*TALK, {"role": "assistant", "content": "Once upon a time"}]
    assert model.chat(begun, continue_final_message=True, max_tokens=3, temperature=0).startswith(",")


def test_errors_and_notes(model: bise.Model) -> None:
    with pytest.raises(bise.ChatTemplateError, match='no chat template is called "mistral-v99"'):
        model.chat(TALK, chat_template="mistral-v99")
    with pytest.raises(bise.ChatTemplateError, match="Jinja"):
        model.chat(TALK, chat_template="{% if")
    with pytest.raises(bise.ChatTemplateError, match="without a role"):
        model.chat([{"content": "?"}])
    with pytest.raises(TypeError):
        model.chat([{"role": "user", "content": object()}])
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}{{ messages[0].content }}"
    with pytest.warns(UserWarning, match="no system role"):
        text = model.apply_chat_template(
            [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}], chat_template=refusing
        )
    assert text == "Be brief.\nHi"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.apply_chat_template(TALK)
