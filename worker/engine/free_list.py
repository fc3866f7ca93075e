"""The order in which unused blocks are taken."""

from __future__ import annotations

from collections.abc import Iterator


class FreeList:
    """Doubly linked list over block ids, head taken first, O(1) everywhere.

    The links live in two flat lists with one sentinel, because a block is taken out of the middle
    whenever a prefix hit brings it back to use.
    """

    __slots__ = ("_end", "_next", "_num_items", "_prev")

    def __init__(self, num_blocks: int) -> None:
        self._end = num_blocks
        order = [*range(num_blocks), num_blocks]
        self._next = [0] * (num_blocks + 1)
        self._prev = [0] * (num_blocks + 1)
        for left, right in zip(order, order[1:] + order[:1], strict=True):
            self._next[left] = right
            self._prev[right] = left
        self._num_items = num_blocks

    def __len__(self) -> int:
        return self._num_items

    def __iter__(self) -> Iterator[int]:
        block_id = self._next[self._end]
        while block_id != self._end:
            yield block_id
            block_id = self._next[block_id]

    def pop_head(self) -> int:
        """Takes the block that is to be reused first.

        Raises:
            IndexError: the list is empty.
        """
        if not self._num_items:
            raise IndexError("no free block")
        block_id = self._next[self._end]
        self.remove(block_id)
        return block_id

    def remove(self, block_id: int) -> None:
        """Takes a block out; it must be in the list."""
        left, right = self._prev[block_id], self._next[block_id]
        self._next[left], self._prev[right] = right, left
        self._num_items -= 1

    def append_tail(self, block_id: int) -> None:
        """Adds a block that is to be reused last."""
        self._insert_between(self._prev[self._end], block_id, self._end)

    def push_head(self, block_id: int) -> None:
        """Adds a block that is to be reused first."""
        self._insert_between(self._end, block_id, self._next[self._end])

    def _insert_between(self, left: int, block_id: int, right: int) -> None:
        self._next[left] = self._prev[right] = block_id
        self._prev[block_id], self._next[block_id] = left, right
        self._num_items += 1
