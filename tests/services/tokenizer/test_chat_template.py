import pytest

from services.core.errors import InvalidRequest
from services.core.request import ChatMessage
from services.tokenizer.chat_template import ChatTemplate

HELLO = (ChatMessage("user", "hello"),)


def render(source: str, messages=HELLO) -> str:
    return ChatTemplate(source, {"bos_token": "<s>"}).render(messages)


def test_a_template_sees_messages_tokens_and_the_generation_flag():
    source = (
        "{{ bos_token }}{% for m in messages %}{{ m['role'] }}:{{ m.content }};{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    messages = (ChatMessage("system", "be brief"), *HELLO)
    assert render(source, messages) == "<s>system:be brief;user:hello;assistant:"


def test_blocks_leave_no_blank_lines():
    assert render("{% if true %}\n  {% set x = 1 %}\nx\n{% endif %}\n") == "x\n"


def test_templates_may_use_what_transformers_gives_them():
    source = (
        "{% generation %}{{ {'a': 'é<'} | tojson }}{% endgeneration %}"
        "{{ strftime_now('%%') }}{% for i in [1, 2] %}{% break %}{% endfor %}"
        "{% if tools is none %}no tools{% endif %}"
    )
    assert render(source) == '{"a": "é<"}%no tools'


@pytest.mark.parametrize("role", ["", "User", "tool", "<|im_end|>"])
def test_an_unknown_role_is_refused_by_place(role):
    messages = (*HELLO, ChatMessage(role, "x"))
    with pytest.raises(InvalidRequest, match=r"messages\[1\]\.role") as caught:
        render("x", messages)
    assert caught.value.field == "messages"


def test_an_empty_conversation_is_refused():
    with pytest.raises(InvalidRequest, match="messages is empty"):
        render("x", ())


def test_what_the_template_says_is_passed_on():
    with pytest.raises(InvalidRequest, match="must alternate") as caught:
        render("{{ raise_exception('roles must alternate') }}")
    assert caught.value.field == "messages"


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages[7].content }}",
        "{{ 1 / 0 }}",
        "{{ undefined_function() }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{% for i in range(10 ** 9) %}{% endfor %}",
    ],
)
def test_a_template_that_fails_is_the_requests_fault_not_ours(source):
    with pytest.raises(InvalidRequest) as caught:
        render(source)
    assert caught.value.field == "messages"


def test_a_template_with_bad_syntax_is_said_at_start():
    with pytest.raises(ValueError, match="line 1"):
        ChatTemplate("{% if %}", {})


def test_message_text_is_never_run_as_a_template():
    assert render("{{ messages[0].content }}", (ChatMessage("user", "{{ 1 }}"),)) == "{{ 1 }}"
