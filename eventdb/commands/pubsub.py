"""Commands: pubsub."""
