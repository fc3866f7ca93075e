"""Keeps the K/V index true: events in, lost ones noticed, whole lists fetched."""

from __future__ import annotations

from collections import Counter

from services.core.block_names import BlockNames, BlockNaming
from services.core.blocks import BlockHash
from services.core.errors import TokenmillError
from services.core.kv_events import KvEvent, KvState
from services.core.load import WorkerHeartbeat
from services.core.request import QueuedRequest
from services.runtime.logs import get_logger
from services.scheduler.fleet.kv_index import KvIndex
from services.scheduler.fleet.worker_client import WorkerClient
from services.scheduler.queue.hold import Spawn

log = get_logger(__name__)

REPAIR_AFTER_S = 0.3
"""A worker's heartbeat may overtake its events by so much before one counts as lost."""

LIST_GAP_S = 2.0
"""A worker is not asked for its list again before this."""

LIST_TIMEOUT_S = 5.0
MAX_LISTS_AT_ONCE = 4

MAX_HASHED_BLOCKS = 2_048
"""Of a prompt; what lies beyond makes no difference to where it goes. Bounds the time of a pull."""


class KvTracker:
    """The index of one model, and the names of a prompt's blocks.

    Args:
        client: fetches workers' own lists.
        spawn: runs fetches beside each other.
    """

    def __init__(self, index: KvIndex, client: WorkerClient, spawn: Spawn) -> None:
        self._index = index
        self._client = client
        self._spawn = spawn
        self._behind_since_s: dict[str, float] = {}
        self._asked_s: dict[str, float] = {}
        self._asking: set[str] = set()
        self._states: dict[str, tuple[KvState, int]] = {}
        self._naming = BlockNaming()
        self._named = ("", "", 0)
        self._names = BlockNames(*self._named)

    def name_by(self, naming: BlockNaming) -> None:
        """Names blocks so from now on, as the workers do."""
        self._naming = naming
        self._named = ("", "", 0)

    def on_event(self, event: KvEvent) -> None:
        """Takes a worker's word on what changed."""
        self._index.apply(event)

    def on_heartbeat(self, heartbeat: WorkerHeartbeat, now_s: float) -> None:
        """Looks whether all events of the worker came, and asks for its list if not."""
        kv, worker_id = heartbeat.kv, heartbeat.worker_id
        if kv is None:
            return
        self._states[worker_id] = (kv, heartbeat.load.block_size)
        if self._index.position(worker_id) >= (kv.epoch, kv.event_idx) or kv.event_idx == 0:
            self._behind_since_s.pop(worker_id, None)
            return
        since_s = self._behind_since_s.setdefault(worker_id, now_s)
        asked_s = self._asked_s.get(worker_id, now_s - LIST_GAP_S)
        is_due = now_s - since_s >= REPAIR_AFTER_S and now_s - asked_s >= LIST_GAP_S
        if is_due and worker_id not in self._asking and len(self._asking) < MAX_LISTS_AT_ONCE:
            self._asking.add(worker_id)
            self._asked_s[worker_id] = now_s
            self._spawn(self._repair(worker_id, heartbeat.address))

    def forget(self, worker_id: str) -> None:
        """The worker is gone."""
        self._index.forget(worker_id)
        for known in (self._behind_since_s, self._asked_s, self._states):
            known.pop(worker_id, None)

    def hashes_of(self, request: QueuedRequest) -> tuple[BlockHash, ...]:
        """Names of the prompt's full blocks; none while no worker tells of its blocks.

        Workers whose blocks have another layout than those of most cannot be matched: they look as
        if they held nothing.
        """
        if not self._states:
            return ()
        roots = Counter(
            (kv.model_revision, kv.layout, block_size) for kv, block_size in self._states.values()
        )
        (model_revision, layout, block_size), _ = roots.most_common(1)[0]
        if (model_revision, layout, block_size) != self._named:
            self._named = (model_revision, layout, block_size)
            self._names = BlockNames(*self._named, self._naming)
        prompt = request.prompt_token_ids[: MAX_HASHED_BLOCKS * block_size]
        return tuple(self._names.hashes(request.tenant, prompt))

    async def _repair(self, worker_id: str, address: str) -> None:
        try:
            snapshot = await self._client.list_blocks(worker_id, address, timeout_s=LIST_TIMEOUT_S)
        except TokenmillError as exc:
            log.warning("kv_index.not_repaired", worker_id=worker_id, error=exc.message)
            return
        finally:
            self._asking.discard(worker_id)
        if worker_id not in self._states:
            return  # forgotten meanwhile
        self._index.replace(snapshot)
        log.info(
            "kv_index.repaired",
            worker_id=worker_id,
            num_blocks=len(snapshot.held),
            event_idx=snapshot.event_idx,
        )
