"""Every strategy of limits (their Lua counts): a line each, the same on every server. Usage: rate_limits.py PORT."""

import sys

from limits import parse, storage, strategies

store = storage.storage_from_string(f"redis://127.0.0.1:{sys.argv[1]}")
limit = parse("3/day")
for strategy in ("FixedWindowRateLimiter", "MovingWindowRateLimiter", "SlidingWindowCounterRateLimiter"):
    limiter = getattr(strategies, strategy)(store)
    hits = [limiter.hit(limit, "user", strategy) for _ in range(5)]
    print(strategy, hits, limiter.test(limit, "user", strategy), limiter.get_window_stats(limit, "user", strategy)[1])
    limiter.clear(limit, "user", strategy)
    print(strategy, [limiter.hit(limit, "user", strategy, cost=2) for _ in range(2)])
print("reset", store.check(), store.reset())
