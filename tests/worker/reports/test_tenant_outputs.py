from services.core.load import TenantOutput
from services.core.request import RequestClass
from worker.reports.tenant_outputs import MAX_TOLD, TenantOutputs


def test_counts_rise_by_tenant_and_class():
    outputs = TenantOutputs()
    for tenant, request_class, count in (
        ("a", RequestClass.BATCH, 1),
        ("a", RequestClass.BATCH, 2),
        ("a", RequestClass.STANDARD, 4),
    ):
        outputs.add(tenant, request_class, count)
    assert outputs.latest() == (
        TenantOutput("a", RequestClass.BATCH, 3),
        TenantOutput("a", RequestClass.STANDARD, 4),
    )


def test_only_those_that_changed_last_are_told():
    outputs = TenantOutputs()
    for idx in range(MAX_TOLD + 1):
        outputs.add(str(idx), RequestClass.STANDARD, 1)
    assert [output.tenant for output in outputs.latest()] == [
        str(idx) for idx in range(1, MAX_TOLD + 1)
    ]
