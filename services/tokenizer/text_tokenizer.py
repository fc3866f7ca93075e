"""Text and conversations to ids: pure, blocking, safe to call from several threads."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer

from services.core.errors import InvalidRequest
from services.core.request import ChatMessage
from services.tokenizer.chat_template import ChatTemplate, check_messages
from services.tokenizer.model_files import BadModelFiles, ModelFiles


class TextTooLong(InvalidRequest):
    """The text is longer than what is tokenized at all.

    Attributes:
        size_bytes: what was sent, UTF-8.
        max_text_bytes: what is taken.
    """

    reason = "TEXT_TOO_LONG"

    def __init__(self, *, field: str, size_bytes: int, max_text_bytes: int) -> None:
        super().__init__(
            f"{field} has {size_bytes} bytes of text; the limit is {max_text_bytes} bytes",
            field=field,
        )
        self.size_bytes = size_bytes
        self.max_text_bytes = max_text_bytes


class TextTokenizer:
    """One model's tokenizer and chat template, with bounds.

    Raises:
        BadModelFiles: tokenizer or template cannot be used.
    """

    def __init__(self, files: ModelFiles, *, max_text_bytes: int, max_messages: int) -> None:
        self._max_text_bytes = max_text_bytes
        self._max_messages = max_messages
        self._template: ChatTemplate | None = None
        try:
            self._tokenizer = Tokenizer.from_buffer(files.tokenizer_json)
            if files.chat_template is not None:
                self._template = ChatTemplate(files.chat_template, files.special_tokens)
        except Exception as exc:
            # The library raises plain Exception for a file that it cannot read.
            raise BadModelFiles(f"tokenizer cannot be loaded: {exc}") from exc
        # Some files keep the settings of their training: texts would be cut or filled up.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def tokenize(self, content: str | Sequence[ChatMessage]) -> list[int]:
        """Ids of plain text, or of a conversation up to where the answer begins.

        Raises:
            InvalidRequest: too long, or the model has no use for it.
        """
        if isinstance(content, str):
            self._check_size(len(content.encode()), field="prompt")
            return self._encode(content, add_special_tokens=True)
        self._check_conversation(content)
        if self._template is None:
            raise InvalidRequest(
                "the model has no chat template; ask for a completion of a prompt instead",
                field="messages",
            )
        prompt = self._template.render(content)
        # The template wrote the special tokens itself; adding them again would double them.
        return self._encode(prompt, add_special_tokens=False)

    def _encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        # A batch of one: plain `encode` keeps the interpreter locked, so that a long text would
        # stop the event loop of the whole process for seconds. `fast` leaves out the offsets.
        (encoding,) = self._tokenizer.encode_batch_fast(
            [text], add_special_tokens=add_special_tokens
        )
        return encoding.ids

    def _check_conversation(self, messages: Sequence[ChatMessage]) -> None:
        if len(messages) > self._max_messages:
            raise InvalidRequest(
                f"messages has {len(messages)} entries; the limit is {self._max_messages}",
                field="messages",
            )
        check_messages(messages)
        size_bytes = sum(len(message.content.encode()) for message in messages)
        self._check_size(size_bytes, field="messages")

    def _check_size(self, size_bytes: int, *, field: str) -> None:
        if size_bytes > self._max_text_bytes:
            raise TextTooLong(
                field=field, size_bytes=size_bytes, max_text_bytes=self._max_text_bytes
            )
