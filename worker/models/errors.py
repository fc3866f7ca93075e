"""What can keep a model from becoming ready."""

from __future__ import annotations


class ModelUnavailable(Exception):
    """The model cannot be made ready; the message says what to change."""
