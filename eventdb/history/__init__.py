"""history: the past of a log, as views that no client changes; and files of Redis, as state at an offset goes out and comes in."""
