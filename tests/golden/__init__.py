"""Bytes that older programs left on disk, kept as they were, and how they were made (`make.py`)."""
