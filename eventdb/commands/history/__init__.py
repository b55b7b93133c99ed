"""history: commands on the log's offsets and its past (EVENTDB.*)."""
