"""history: the past of a log, as views that no client changes; how state goes out to files of Redis and comes in."""
