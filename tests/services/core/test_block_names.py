from hypothesis import given
from hypothesis import strategies as st

from services.core.block_names import BlockNames, BlockNaming
from services.core.blocks import PUBLIC_TENANT, extend_chain

BLOCK = 4
SECRET = b"s" * 32
# Few ids, so that prompts often have the same beginnings.
TOKENS = st.lists(st.integers(0, 1), max_size=24)


def names_of(*public: list[int], secret: bytes = SECRET) -> BlockNames:
    return BlockNames("rev", "layout", BLOCK, BlockNaming(secret, tuple(map(tuple, public))))


def test_without_the_secret_nobody_can_name_a_block():
    prompt = list(range(12))
    assert not set(names_of().hashes("a", prompt)) & set(
        names_of(secret=b"t" * 32).hashes("a", prompt)
    )


def test_equal_secrets_give_equal_names_in_every_process():
    prompt = list(range(12))
    assert names_of([0, 1, 2, 3]).hashes("a", prompt) == names_of([0, 1, 2, 3]).hashes("a", prompt)


@given(TOKENS, TOKENS, TOKENS)
def test_tenants_share_exactly_the_full_blocks_that_were_declared(
    public: list[int], ours: list[int], theirs: list[int]
):
    names = names_of(public)
    num_shared = 0
    for start in range(0, min(len(ours), len(theirs), len(public)) - BLOCK + 1, BLOCK):
        end = start + BLOCK
        if not ours[:end] == theirs[:end] == public[:end]:
            break
        num_shared += 1
    our_hashes, their_hashes = names.hashes("a", ours), names.hashes("b", theirs)
    assert our_hashes[:num_shared] == their_hashes[:num_shared]
    assert not set(our_hashes[num_shared:]) & set(their_hashes[num_shared:])


@given(TOKENS, TOKENS, TOKENS)
def test_within_a_tenant_equal_prefixes_have_equal_names(
    public: list[int], left: list[int], right: list[int]
):
    names = names_of(public)
    num_equal = 0
    while (
        left[: (num_equal + 1) * BLOCK] == right[: (num_equal + 1) * BLOCK]
        and len(left) >= (num_equal + 1) * BLOCK
    ):
        num_equal += 1
    one, other = names.hashes("a", left), names.hashes("a", right)
    assert one[:num_equal] == other[:num_equal]
    assert not set(one[num_equal:]) & set(other[num_equal:])


@given(TOKENS, TOKENS)
def test_a_chain_that_grows_token_by_token_has_the_names_of_the_whole(
    public: list[int], prompt: list[int]
):
    names = names_of(public)
    grown: list[bytes] = []
    for length in range(len(prompt) + 1):
        extend_chain(
            grown,
            prompt[:length],
            length // BLOCK,
            BLOCK,
            root=names.root_of("a"),
            public=names.public,
        )
    assert grown == names.hashes("a", prompt)


def test_what_is_declared_later_moves_no_other_chain():
    prompt = list(range(12))
    assert names_of([7] * 8).hashes("a", prompt) == names_of().hashes("a", prompt)


def test_no_name_of_a_tenant_makes_its_blocks_public():
    public, prompt = [0, 1, 2, 3], [9, 9, 9, 9]
    for tenant in (PUBLIC_TENANT, "", "~", "a"):
        hashes = names_of(public).hashes(tenant, prompt)
        assert not set(hashes) & names_of(public, prompt).public.hashes
        assert not set(hashes) & names_of(public).public.hashes
        assert hashes != names_of(public).hashes(tenant + "x", prompt)
