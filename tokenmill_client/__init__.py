"""Tokenmill for Python programs, over gRPC: `Client`, and `AsyncClient` for asyncio."""

from services.core.errors import (
    Conflict,
    DeadlineExceeded,
    DependencyLost,
    InvalidRequest,
    NotFound,
    Overloaded,
    PermissionDenied,
    QuotaExceeded,
    RequestCancelled,
    TokenmillError,
    Unauthenticated,
)
from services.core.logprobs import TokenLogprobs
from services.core.request import ChatMessage, FinishReason, RequestClass, Usage
from services.core.sampling import SamplingParams
from services.wire.inference import AnswerPart, ListedModel
from tokenmill_client.answer import Answer, Choice
from tokenmill_client.async_client import AsyncClient, AsyncSession
from tokenmill_client.calls import CallOptions
from tokenmill_client.client import Client, Session
from tokenmill_client.connection import Tls
from tokenmill_client.retries import Retries

__all__ = [
    "Answer",
    "AnswerPart",
    "AsyncClient",
    "AsyncSession",
    "CallOptions",
    "ChatMessage",
    "Choice",
    "Client",
    "Conflict",
    "DeadlineExceeded",
    "DependencyLost",
    "FinishReason",
    "InvalidRequest",
    "ListedModel",
    "NotFound",
    "Overloaded",
    "PermissionDenied",
    "QuotaExceeded",
    "RequestCancelled",
    "RequestClass",
    "Retries",
    "SamplingParams",
    "Session",
    "Tls",
    "TokenLogprobs",
    "TokenmillError",
    "Unauthenticated",
    "Usage",
]
