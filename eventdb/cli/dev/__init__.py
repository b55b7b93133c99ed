"""dev: what `eventdb dev` starts on a developer's machine: a small Kafka cluster."""
