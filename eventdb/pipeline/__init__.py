"""pipeline: from a change to a durable reply. It knows no command.

`commit.py` gathers transactions into batches and frees replies when a batch is durable; `appending.py` takes a sealed
batch to the log.
"""
