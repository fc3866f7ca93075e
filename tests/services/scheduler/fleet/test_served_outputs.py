from dataclasses import replace

from services.core.load import TenantOutput
from services.core.request import RequestClass
from services.scheduler.fleet.served_outputs import ServedOutputs
from tests.services.scheduler.requests import heartbeat


def growth(served: ServedOutputs, num_tokens: int) -> list[int]:
    output = TenantOutput("t", RequestClass.STANDARD, num_tokens)
    beat = replace(heartbeat(), outputs=(output,))
    return [grown.num_tokens for grown in served.growth(beat)]


def test_what_came_before_the_first_heartbeat_is_not_counted():
    served = ServedOutputs()
    assert growth(served, 50) == []
    assert growth(served, 50) == []
    assert growth(served, 57) == [7]


def test_a_count_that_begins_anew_is_all_growth():
    served = ServedOutputs()
    growth(served, 50)
    assert growth(served, 3) == [3]
