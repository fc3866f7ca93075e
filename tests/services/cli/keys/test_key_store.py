import json

from services.cli.keys.key_store import KeyStore, KeyWish
from services.wire.access import decode_key, encode_key
from tests.gateway.fake_cluster import FakeStore


async def test_a_rotated_key_may_do_what_the_old_one_could():
    store = KeyStore(FakeStore())  # pyright: ignore[reportArgumentType]
    old = await store.create(KeyWish("anna", tenant="acme", caches_results=True))
    new = await store.rotate(old.key.key_id, grace_s=60)
    assert new.key.caller().caches_results
    assert new.key.tenant == "acme"


async def test_a_record_of_an_earlier_version_uses_no_kept_results():
    made = await KeyStore(FakeStore()).create(KeyWish("anna"))  # pyright: ignore[reportArgumentType]
    record = json.loads(encode_key(made.key))
    del record["caches_results"]
    assert not decode_key(json.dumps(record).encode()).caches_results
