import pytest

from services.core.errors import InvalidRequest
from services.runtime.settings import ProcessSettings, read_settings


def test_the_environment_is_read_with_the_prefix(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TOKENMILL_NATS_URL", "nats://broker:1")
    assert read_settings(ProcessSettings).nats_url == "nats://broker:1"


def test_a_bad_value_is_refused_by_variable_and_value(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TOKENMILL_GRPC_PORT", "70000")
    with pytest.raises(InvalidRequest, match=r"TOKENMILL_GRPC_PORT is '70000'.*65535"):
        read_settings(ProcessSettings)


def test_every_setting_is_explained():
    assert all(field.description for field in ProcessSettings.model_fields.values())
