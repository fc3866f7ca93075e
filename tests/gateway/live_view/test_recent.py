from gateway.live_view.recent import WINDOW_S, RecentAnswers, percentiles


def test_an_empty_window_has_rates_of_zero_and_no_percentiles():
    figures = RecentAnswers().figures(100.0)
    assert (figures.requests_per_s, figures.tokens_per_s) == (0.0, 0.0)
    assert (figures.ttft_ms, figures.itl_ms) == (None, None)


def test_what_is_older_than_the_window_is_not_counted():
    recent = RecentAnswers()
    for now_s in (0.0, 50.0, 60.0):
        recent.tokens_came(30, now_s)
        recent.ended(now_s, ttft_s=0.1, gap_s=None, is_failed=now_s == 60.0)
    figures = recent.figures(61.0)
    assert figures.tokens_per_s == 60 / WINDOW_S
    assert figures.requests_per_s == 2 / WINDOW_S
    assert figures.failed_per_s == 1 / WINDOW_S
    assert figures.ttft_ms == {"p50": 100.0, "p90": 100.0, "p99": 100.0}


def test_percentiles_are_by_nearest_rank():
    assert percentiles(range(1, 101)) == {"p50": 50, "p90": 90, "p99": 99}
    assert percentiles([7.0]) == {"p50": 7.0, "p90": 7.0, "p99": 7.0}


def test_the_hit_share_is_of_tokens_and_not_of_answers():
    recent = RecentAnswers()
    for prompt_tokens, cached_tokens in ((900, 850), (100, 0)):
        recent.ended(
            1.0,
            ttft_s=0.1,
            gap_s=None,
            is_failed=False,
            prompt_tokens=prompt_tokens,
            cached_tokens=cached_tokens,
        )
    assert recent.figures(2.0).hit_share == 0.85
    assert RecentAnswers().figures(2.0).hit_share is None
