from gateway.loss_order import Newcomer, Standing, choose_losses
from services.core.request import RequestClass

BATCH, INTERACTIVE = RequestClass.BATCH, RequestClass.INTERACTIVE


def standing(*entries: tuple[str, str, RequestClass], begun: str = "") -> list[Standing]:
    return [Standing(name, tenant, kind, name in begun) for name, tenant, kind in entries]


def test_nobody_gives_way_while_there_is_room():
    here = standing(("a", "t", BATCH))
    assert choose_losses(here, Newcomer("u", INTERACTIVE), max_requests=2) == []


def test_batch_that_waits_gives_way_latest_first():
    here = standing(("a", "t", BATCH), ("b", "t", BATCH), ("c", "t", INTERACTIVE))
    assert choose_losses(here, Newcomer("t", INTERACTIVE), max_requests=3) == ["b"]
    assert choose_losses(here, Newcomer("t", INTERACTIVE, 2), max_requests=3) == ["b", "a"]


def test_what_runs_is_never_given_up():
    here = standing(("a", "t", BATCH), ("b", "t", INTERACTIVE), begun="ab")
    assert choose_losses(here, Newcomer("u", INTERACTIVE), max_requests=2) is None


def test_batch_does_not_push_batch_of_a_tenant_within_its_share():
    here = standing(("a", "t", BATCH), ("b", "u", BATCH))
    assert choose_losses(here, Newcomer("t", BATCH), max_requests=2) is None


def test_tenant_over_its_share_gives_way_down_to_the_share_and_no_further():
    here = standing(*((name, "big", INTERACTIVE) for name in "abcd"))
    assert choose_losses(here, Newcomer("small", INTERACTIVE), max_requests=4) == ["d"]
    assert choose_losses(here, Newcomer("small", INTERACTIVE, 2), max_requests=4) == ["d", "c"]
    assert choose_losses(here, Newcomer("small", INTERACTIVE, 3), max_requests=4) is None


def test_newcomer_over_its_own_share_is_refused():
    here = standing(("a", "big", INTERACTIVE), ("b", "big", INTERACTIVE), ("c", "u", INTERACTIVE))
    assert choose_losses(here, Newcomer("big", INTERACTIVE), max_requests=3) is None
