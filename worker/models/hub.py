"""Models from the Hugging Face Hub, in the Hub's own cache, which other programs share."""

from __future__ import annotations

from pathlib import Path

from worker.models.cache import say
from worker.models.errors import ModelUnavailable

_WANTED = ["*.json", "*.safetensors", "*.jinja"]


def fetch_from_hub(repo_id: str) -> Path:
    """Downloads what is not in the Hub's cache yet; without network, what is there must do.

    Raises:
        ModelUnavailable: no such model, no permission, or neither network nor a cached copy.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    say(f"fetching {repo_id} from the Hugging Face Hub")
    try:
        return Path(snapshot_download(repo_id, allow_patterns=_WANTED))
    except GatedRepoError as exc:
        raise ModelUnavailable(f"{repo_id} asks for permission: set HF_TOKEN") from exc
    except RepositoryNotFoundError as exc:
        raise ModelUnavailable(f"the Hub knows no model {repo_id}, or hides it from you") from exc
    except LocalEntryNotFoundError as exc:
        raise ModelUnavailable(
            f"{repo_id} is not in the Hub's cache and the Hub cannot be reached; check the network,"
            " or give a local directory or GGUF file"
        ) from exc
    except Exception as exc:
        # The client lets its HTTP library's errors through, of which there are many.
        raise ModelUnavailable(
            f"cannot fetch {repo_id} from the Hub: {type(exc).__name__}: {exc}"
        ) from exc
