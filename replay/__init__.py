"""replay: how a log becomes state.

Knows transactions, offsets and moments; nothing of sockets, and of Redis only that an event is a list of byte strings.

* `machine.py`: what it drives, a Protocol that eventdb implements; `transaction.py`: decodes a record's body.
* `follower.py`: the loop that reads a log and applies it, at full speed in a rebuild, in slices on a replica.
* `restore.py`: copies a log up to an exact cut into a new one; `marker.py` keeps half a copy from being served.
* `cut.py`: which transaction an offset or a time means; `moment.py`: times as people write them.
* `inspect.py`: shows, checks and digests a log.
"""
