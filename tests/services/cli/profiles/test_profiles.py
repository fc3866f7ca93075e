import tomllib
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

import services.cli.profiles as profiles
from cache_service.settings import CacheSettings
from gateway.settings import GatewaySettings
from services.cli.failure import CommandFailed
from services.cli.profiles import PROFILES, apply_profile, profile_settings
from services.runtime.settings import QueueSettings
from services.scheduler.settings import SchedulerSettings
from worker.settings import WorkerSettings

OWNERS: dict[str, type[BaseSettings]] = {
    "worker": WorkerSettings,
    "scheduler": SchedulerSettings,
    "cache": CacheSettings,
    "gateway": GatewaySettings,
    "queue": QueueSettings,
}


def sections_of(name: str) -> dict[str, dict[str, object]]:
    return tomllib.loads((Path(profiles.__file__).parent / f"{name}.toml").read_text())


@pytest.mark.parametrize("name", PROFILES)
def test_every_setting_exists_where_the_profile_says_and_is_allowed(
    name: str, monkeypatch: pytest.MonkeyPatch
):
    for variable, value in profile_settings(name).items():
        monkeypatch.setenv(variable, value)
    for section, fields in sections_of(name).items():
        settings = OWNERS[section]()
        for field, value in fields.items():
            assert getattr(settings, field) == value, f"{section}.{field}"


@pytest.mark.parametrize("name", PROFILES)
def test_a_setting_is_named_in_one_section_only(name: str):
    fields = [field for section in sections_of(name).values() for field in section]
    assert len(fields) == len(set(fields))


def test_what_the_user_set_stays():
    environment = {"TOKENMILL_MAX_NUM_SEQS": "3"}
    apply_profile("chat", environment)
    assert environment["TOKENMILL_MAX_NUM_SEQS"] == "3"
    assert environment["TOKENMILL_DTYPE"] == "bf16"


def test_without_a_profile_nothing_changes():
    environment: dict[str, str] = {}
    apply_profile(None, environment)
    assert environment == {}


def test_an_unknown_profile_is_refused_with_those_that_exist():
    with pytest.raises(CommandFailed, match=r"'fast'; allowed: chat, batch, edge"):
        profile_settings("fast")
