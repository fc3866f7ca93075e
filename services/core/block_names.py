"""What a model's blocks are called in one cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from services.core.blocks import (
    PUBLIC_TENANT,
    BlockHash,
    PublicBlocks,
    block_hashes,
    chain_root,
)


@dataclass(frozen=True, slots=True)
class BlockNaming:
    """What all processes of a cluster that name a model's blocks must know.

    Attributes:
        secret: of the cluster. Another one makes every cache cold, and does no other harm.
        public_prompts: token ids that many prompts begin with, declared by an operator.
    """

    secret: bytes = field(default=b"", repr=False)
    public_prompts: tuple[tuple[int, ...], ...] = ()


class BlockNames:
    """Names the blocks of one model in one layout. Pure: equal arguments, equal names.

    Attributes:
        public: those that all tenants share.
    """

    def __init__(
        self, model_revision: str, layout: str, block_size: int, naming: BlockNaming = BlockNaming()
    ) -> None:
        self._model_revision = model_revision
        self._layout = layout
        self._block_size = block_size
        self._secret = naming.secret
        # No tenant's, whatever it is called: adapters are not called so.
        public_root = self._root(adapter=PUBLIC_TENANT, tenant="")
        self.public = PublicBlocks(
            public_root,
            frozenset(
                block_hash
                for prompt in naming.public_prompts
                for block_hash in block_hashes(public_root, prompt, block_size)
            ),
        )

    def root_of(self, tenant: str) -> BlockHash:
        """Where a tenant's chains start."""
        return self._root(adapter="", tenant=tenant)

    def hashes(self, tenant: str, token_ids: Sequence[int]) -> list[BlockHash]:
        """Hashes of all full blocks of a tenant's prompt, first block first."""
        return block_hashes(self.root_of(tenant), token_ids, self._block_size, self.public)

    def _root(self, *, adapter: str, tenant: str) -> BlockHash:
        return chain_root(
            model_revision=self._model_revision,
            layout=self._layout,
            adapter=adapter,
            tenant=tenant,
            secret=self._secret,
        )
