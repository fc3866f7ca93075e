from services.scheduler.recent import Recent


def test_the_oldest_is_forgotten_first():
    recent: Recent[str] = Recent(2)
    for key in ("a", "b", "c"):
        recent.add(key)
    assert "a" not in recent
    assert "b" in recent
    assert "c" in recent


def test_a_key_that_comes_again_is_new_again():
    recent: Recent[str] = Recent(2)
    for key in ("a", "b", "a", "c"):
        recent.add(key)
    assert "a" in recent
    assert "b" not in recent
