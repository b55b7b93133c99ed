"""history: the past of a log, as views that no client changes."""
