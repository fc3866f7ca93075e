"""A conversation as one prompt, by the model's own Jinja template.

Templates come with models, so they are other people's programs: they run in a sandbox that lets
them read what they are given and nothing else. What they may call is what `apply_chat_template` of
transformers offers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

from services.core.errors import InvalidRequest
from services.core.request import ChatMessage

ROLES = ("system", "user", "assistant")
FIELD = "messages"


class TemplateRefused(jinja2.TemplateError):
    """The template itself says that it cannot take the conversation."""


class ChatTemplate:
    """A compiled template.

    Args:
        source: Jinja source.
        special_tokens: by role, e.g. bos_token.

    Raises:
        ValueError: the source is no valid template.
    """

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[jinja2.ext.loopcontrols, _GenerationBlock],
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = _strftime_now
        self._special_tokens = dict(special_tokens)
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateSyntaxError as exc:
            raise ValueError(f"chat template, line {exc.lineno}: {exc.message}") from exc

    def render(self, messages: Sequence[ChatMessage]) -> str:
        """The prompt, ending where the assistant's answer begins.

        Raises:
            InvalidRequest: no messages, an unknown role, or the template refuses them.
        """
        check_messages(messages)
        try:
            return self._template.render(
                self._special_tokens,
                messages=[{"role": entry.role, "content": entry.content} for entry in messages],
                add_generation_prompt=True,
                tools=None,
                documents=None,
            )
        except TemplateRefused as exc:
            raise InvalidRequest(
                f"the model's chat template refuses the messages: {exc.message}", field=FIELD
            ) from exc
        except Exception as exc:
            # A template is a program: it fails on what it does not expect in any way that
            # Python code can, and the conversation is what it did not expect.
            raise InvalidRequest(
                f"the model's chat template fails on the messages: {type(exc).__name__}: {exc}",
                field=FIELD,
            ) from exc


def check_messages(messages: Sequence[ChatMessage]) -> None:
    """Refuses what no template should see.

    Raises:
        InvalidRequest: names the first offending message.
    """
    if not messages:
        raise InvalidRequest("messages is empty; at least one is needed", field=FIELD)
    for index, message in enumerate(messages):
        if message.role not in ROLES:
            raise InvalidRequest(
                f"messages[{index}].role is {message.role[:64]!r}; allowed: {', '.join(ROLES)}",
                field=FIELD,
            )


class _GenerationBlock(jinja2.ext.Extension):
    """`{% generation %}` marks the assistant's words for training; here it changes nothing."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _refuse(message: str) -> NoReturn:
    raise TemplateRefused(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


def _to_json(value: Any, **options: Any) -> str:
    # Jinja's own escapes for HTML, which no model was trained on.
    options.setdefault("ensure_ascii", False)
    return json.dumps(value, **options)
