"""What clients ask of a service, as OpenAI's API has it: granted or refused by name, never silently ignored.

Temperature is 0 where none is given: that is how the release was judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from editors.tokens import Row, messages_row, text_row
from tasks.service import Held

PROMPTS = 32  # of one request
STOPS = 4
SHORT = 16  # tokens of a completion for which no length is given, as OpenAI has it

# What may be sent as long as it asks for nothing.
NEUTRAL: Mapping[str, Any] = {
    "n": 1,
    "best_of": 1,
    "echo": False,
    "logprobs": False,
    "top_logprobs": 0,
    "logit_bias": {},
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "suffix": None,
    "tools": [],
    "tool_choice": "none",
    "parallel_tool_calls": False,
    "response_format": {"type": "text"},
    "store": False,
}
ABOUT_THE_CLIENT = {"user", "metadata", "safety_identifier"}


def _several(stop: Any) -> Any:  # noqa: ANN401 - whatever a client sent
    """One stop, or none, as a list of them."""
    return [stop] if isinstance(stop, str) else [] if stop is None else stop


def _few(stops: tuple[str, ...]) -> tuple[str, ...]:
    if len(stops) > STOPS or "" in stops:
        raise ValueError(f"at most {STOPS} stops, none of them empty")
    return stops


class StreamOptions(BaseModel):
    """How to stream."""

    include_usage: bool = False


class Asked(BaseModel):
    """What both ways of asking share."""

    model_config = ConfigDict(extra="forbid")

    model: str
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float = Field(default=0.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: Annotated[tuple[str, ...], BeforeValidator(_several), AfterValidator(_few)] = ()
    stream: bool = False
    stream_options: StreamOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def drop_what_asks_for_nothing(cls, given: Any) -> Any:  # noqa: ANN401 - whatever a client sent
        """Take away parameters that are at the value at which they change nothing."""
        if not isinstance(given, dict):
            return given
        return {
            name: value
            for name, value in given.items()
            if name not in ABOUT_THE_CLIENT and not (name in NEUTRAL and value in (None, NEUTRAL[name]))
        }


class CompletionAsked(Asked):
    """A text to continue, or several."""

    prompt: str | Annotated[list[str], Field(min_length=1, max_length=PROMPTS)]

    def rows(self, held: Held) -> list[Row]:
        """The prompts as tokens."""
        texts = [self.prompt] if isinstance(self.prompt, str) else self.prompt
        return [text_row(held.tokenizer, text) for text in texts]

    def length(self, room: int) -> int:
        """How many tokens to write at most."""
        return self.max_tokens or min(SHORT, room)


class Part(BaseModel):
    """A part of a message."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """A message of a conversation."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "user", "assistant"]
    content: str | list[Part]

    def plain(self) -> dict[str, str]:
        """The message as a chat template wants it."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": self.role, "content": text}


class ChatAsked(Asked):
    """A conversation to continue."""

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)

    def rows(self, held: Held) -> list[Row]:
        """The conversation as tokens."""
        return [messages_row(held.tokenizer, [message.plain() for message in self.messages])]

    def length(self, room: int) -> int:
        """How many tokens to write at most."""
        return self.max_completion_tokens or self.max_tokens or room
