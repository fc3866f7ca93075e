"""Keeps what is worth most per second of keeping, by what was learned of reuse."""

from __future__ import annotations

import bisect
import heapq
from collections import OrderedDict
from collections.abc import Iterator, Sequence

from cache_service.policies.leaves import Leaves
from cache_service.policies.reuse_model import AGE_BOUNDS_S, ReuseModel, age_class
from cache_service.policies.traits import KnownBlock, trait_of
from services.core.blocks import BlockHash

_MIN_GHOSTS = 65_536
_GHOSTS_PER_BLOCK = 8
_MIN_REFRESH = 16
_MAX_REFRESH = 400
_REPLAN = 16
"""Requests after which ages have moved on enough to look at all blocks again."""

_COLDEST = 64
_Place = tuple[float, float, BlockHash]


class ReusePolicy:
    """Worth of a block by its traits and the time since its last use; the least worth goes first.

    Traits, the most telling first: near the end of its chain or inside; how often it was used; how
    many turns its chain has had; how much the last request added. Blocks that went are remembered
    for a while, so that those are learned from as well that were evicted too early.
    """

    def __init__(self) -> None:
        self._model = ReuseModel(prefixes=(2, 3, 4))
        self._known: dict[BlockHash, KnownBlock] = {}
        self._ghosts: OrderedDict[BlockHash, None] = OrderedDict()
        self._leaves = Leaves()
        # Leaves that came since the order was last asked for; most are continued at once.
        self._fresh: set[BlockHash] = set()
        # The other leaves of each trait row by time of last use; ages are found by bisection.
        self._by_age: list[list[tuple[float, BlockHash]]] = []
        self._coldest: list[_Place] = []
        self._num_requests = 0
        self._now_s = 0.0
        self._refresh_at = 1
        self._replan_at = 0
        self._last_key: tuple[int, float] | None = None
        self._last_worth = 0.0

    def used(self, chain: Sequence[BlockHash], now_s: float) -> None:
        """Learns from the chain, and of it."""
        self._num_requests += 1
        self._now_s, self._last_key = now_s, None
        num_known = 0
        for block_hash in chain:
            if block_hash not in self._known:
                break
            num_known += 1
        turn = self._turn(chain, num_known)
        num_new = len(chain) - num_known
        rows: dict[tuple[bool, int], int] = {}
        for num_after, block_hash in zip(range(len(chain) - 1, -1, -1), chain, strict=True):
            known = self._known.get(block_hash)
            if known is None:
                known = KnownBlock(now_s, 0, turn, num_after, 1, num_new)
                self._known[block_hash] = known
            else:
                self._model.reused(block_hash, known.row, now_s)
                self._take_out(block_hash, known)
                known.used_s, known.turn, known.num_new = now_s, turn, num_new
                known.num_after = num_after
                known.num_uses += 1
            # What tells the blocks of one request apart.
            key = (num_after > 0, known.num_uses)
            row = rows.get(key)
            if row is None:
                row = rows[key] = self._model.row_of(trait_of(known))
            self._await(block_hash, known, row)
        self._forget_ghosts(now_s)
        if self._num_requests >= self._refresh_at:
            self._model.refresh(now_s)
            pause = min(_MAX_REFRESH, max(_MIN_REFRESH, self._num_requests // 8))
            self._refresh_at = self._num_requests + pause
            self._replan_at = 0

    def add(self, block_hash: BlockHash, parent_hash: BlockHash, now_s: float) -> None:
        """Takes it among the stored."""
        self._now_s, self._last_key = now_s, None
        if block_hash not in self._known:
            self._continue(block_hash, parent_hash, now_s)
        self._ghosts.pop(block_hash, None)
        parent = self._known.get(parent_hash)
        if parent is not None and parent_hash in self._leaves:
            self._take_out(parent_hash, parent)
        self._leaves.join(block_hash, parent_hash)
        self._fresh.add(block_hash)

    def remove(self, block_hash: BlockHash) -> None:
        """Remembers it for a while; its parent may be the next to go."""
        self._take_out(block_hash, self._known[block_hash])
        self._ghosts[block_hash] = None
        parent_hash = self._leaves.leave(block_hash)
        if parent_hash is not None:
            self._fresh.add(parent_hash)

    def add_run(self, run: Sequence[BlockHash], parent_hash: BlockHash, now_s: float) -> None:
        """Takes blocks of a request that was told of."""
        self._now_s, self._last_key = now_s, None
        for block_hash in run:
            self._ghosts.pop(block_hash, None)
        if parent_hash in self._leaves:
            self._take_out(parent_hash, self._known[parent_hash])
        self._leaves.join_run(run, parent_hash)
        if self._leaves.is_leaf(run[-1]):
            self._fresh.add(run[-1])

    def evict(self, num_blocks: int, now_s: float) -> list[BlockHash]:
        """The least worth go."""
        self._put_in_fresh()
        if self._num_requests >= self._replan_at:
            self._plan(now_s, _COLDEST)
        gone: list[BlockHash] = []
        while len(gone) < num_blocks:
            if not self._coldest:
                self._plan(now_s, _COLDEST)
            if not self._coldest:
                break
            place = heapq.heappop(self._coldest)
            block_hash = place[2]
            if not self._is_true(place):
                continue
            self._take_out(block_hash, self._known[block_hash])
            while True:
                gone.append(block_hash)
                self._ghosts[block_hash] = None
                parent = self._leaves.leave(block_hash)
                if parent is None:
                    break
                place = self._place_of(parent)
                # Mostly its last use was the same: then it is the next to go.
                if len(gone) == num_blocks or not self._coldest or place > self._coldest[0]:
                    self._put_in(place)
                    break
                block_hash = parent
        return gone

    def coldest_first(self, now_s: float) -> Iterator[BlockHash]:
        """From the least worth to the most."""
        self._put_in_fresh()
        passed: dict[BlockHash, _Place] = {}
        try:
            if not self._coldest or self._num_requests >= self._replan_at:
                self._plan(now_s, _COLDEST)
            yield from self._listed(passed)
            if len(passed) < len(self._leaves):
                self._plan(now_s, len(self._leaves))
                yield from self._listed(passed)
        finally:
            for place in passed.values():
                heapq.heappush(self._coldest, place)

    def _listed(self, passed: dict[BlockHash, _Place]) -> Iterator[BlockHash]:
        while self._coldest:
            place = heapq.heappop(self._coldest)
            block_hash = place[2]
            if block_hash not in passed and self._is_true(place):
                passed[block_hash] = place
                yield block_hash

    def _is_true(self, place: _Place) -> bool:
        _, used_s, block_hash = place
        return self._leaves.is_leaf(block_hash) and self._known[block_hash].used_s == used_s

    def _plan(self, now_s: float, num_wanted: int) -> None:
        """Lists the coldest leaves; those that become leaves meanwhile are added one by one."""
        self._replan_at = self._num_requests + _REPLAN
        spans: list[tuple[float, int, int, int]] = []
        for row, places in enumerate(self._by_age):
            end = len(places)
            start = 0
            while start < end:
                age = age_class(now_s - places[start][0])
                newest_s = now_s - AGE_BOUNDS_S[age]
                stop = max(start + 1, bisect.bisect_right(places, newest_s, key=_used_s))
                spans.append((self._worth(row, age), row, start, stop))
                start = stop
        spans.sort()
        self._coldest = []
        for worth, row, start, stop in spans:
            self._coldest.extend(
                (worth, used_s, block_hash) for used_s, block_hash in self._by_age[row][start:stop]
            )
            if len(self._coldest) >= num_wanted:
                break
        heapq.heapify(self._coldest)

    def _worth(self, row: int, age: int) -> float:
        worth = self._model.worth
        return float(worth[row, age]) if row < len(worth) else 0.0

    def _turn(self, chain: Sequence[BlockHash], num_known: int) -> int:
        """How many requests came before this one in its conversation."""
        if not num_known:
            return 0
        last = self._known[chain[num_known - 1]]
        # The last block of a request is often half of an answer's: the next may leave it out.
        continues = last.num_after == 0 or (last.num_after == 1 and num_known > 1)
        return last.turn + 1 if continues else 0

    def _continue(self, block_hash: BlockHash, parent_hash: BlockHash, now_s: float) -> None:
        """A block that no request has named: an answer's. It stands at the end of its chain."""
        parent = self._known.get(parent_hash)
        turn, num_new = (parent.turn, parent.num_new) if parent else (0, 1)
        known = self._known[block_hash] = KnownBlock(now_s, 0, turn, 0, 1, num_new)
        self._await(block_hash, known, self._model.row_of(trait_of(known)))
        for num_after in (1, 2):
            known = self._known.get(parent_hash)
            if known is None or known.num_after >= num_after:
                return
            self._model.forgotten(parent_hash, known.row, now_s)
            self._take_out(parent_hash, known)
            known.num_after, known.used_s = num_after, now_s
            self._await(parent_hash, known, self._model.row_of(trait_of(known)))
            if parent_hash not in self._leaves:
                return
            parent_hash = self._leaves.parent_of(parent_hash)

    def _await(self, block_hash: BlockHash, known: KnownBlock, row: int) -> None:
        """Waits for its next use."""
        known.row = row
        self._model.started(block_hash, row, known.used_s)
        if block_hash not in self._leaves:
            self._ghosts[block_hash] = None
            self._ghosts.move_to_end(block_hash)
        elif self._leaves.is_leaf(block_hash):
            self._fresh.add(block_hash)

    def _forget_ghosts(self, now_s: float) -> None:
        max_ghosts = max(_MIN_GHOSTS, _GHOSTS_PER_BLOCK * len(self._leaves))
        while len(self._ghosts) > max_ghosts:
            block_hash, _ = self._ghosts.popitem(last=False)
            known = self._known.pop(block_hash)
            self._model.forgotten(block_hash, known.row, now_s)

    def _put_in_fresh(self) -> None:
        for block_hash in self._fresh:
            self._put_in(self._place_of(block_hash))
        self._fresh.clear()

    def _place_of(self, block_hash: BlockHash) -> _Place:
        known = self._known[block_hash]
        key = (known.row, known.used_s)
        # Blocks of a request come one after the other.
        if key != self._last_key:
            age = age_class(self._now_s - known.used_s)
            self._last_key, self._last_worth = key, self._worth(known.row, age)
        return (self._last_worth, known.used_s, block_hash)

    def _put_in(self, place: _Place) -> None:
        """A leaf takes its place in the order."""
        _, used_s, block_hash = place
        row = self._known[block_hash].row
        while row >= len(self._by_age):
            self._by_age.append([])
        bisect.insort(self._by_age[row], (used_s, block_hash))
        heapq.heappush(self._coldest, place)

    def _take_out(self, block_hash: BlockHash, known: KnownBlock) -> None:
        """Not where its last use put it any more. Before it is continued, or goes."""
        if block_hash in self._fresh:
            self._fresh.discard(block_hash)
        elif self._leaves.is_leaf(block_hash):
            places = self._by_age[known.row]
            del places[bisect.bisect_left(places, (known.used_s, block_hash))]


def _used_s(place: tuple[float, BlockHash]) -> float:
    return place[0]
