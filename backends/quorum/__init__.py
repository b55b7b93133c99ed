"""Quorum files: a log in several directories, each meant for a disk of its own.

Durable means: written and synced in a majority of zones. Which module knows what::

    address   the URL                        identity  which zone a directory is
    files     the calls to the file system   promise   fencing in one zone
    segment   the files of frames            hint      how far is durable, for readers elsewhere
    view      what one zone holds            recovery  the tables: what is a zone worth, what may a claim do
    claim     fence, read, judge             align     where two histories part
    window    frames on their way, votes     zone      the thread of one zone
    writer    one epoch's writer             repair    a damaged segment made anew
    runtime   clock and threads
    reader    reading, anywhere              horizon   readers in the writer's process
    info, verify                             log       the contract over all of it

What holds, for 2f+1 zones (f = 1 for three):

* With at most f zones out of order at a time (unreachable, full, deleted, damaged, or put back from an older
  copy) nothing acknowledged is lost, no stale writer gets an acknowledgement, and the zones heal without help.
* With more than f out of order at a time the log waits (appends stay pending, claims raise Unavailable) or refuses
  (Corrupt) rather than go on without what it knows to be durable. It knows by the hints and by the frames themselves.
  What no remaining zone has ever heard of, it cannot miss.
* An older copy of a zone forgets promises too. A claim puts its promise into every zone it can reach and a writer
  into every zone it joins, so an old promise alone gives a stale writer no majority; a blank zone
  counts only after it was rebuilt and a majority of the *other* zones still holds the writer's promise.
* The zones have to be directories of local file systems, or of shared ones that show names and data to all at once.
  With attribute caches in between (NFS) two hosts may not see each other's promises: do not do that.
"""

from __future__ import annotations

from eventdb.backends.quorum.files import FileOps
from eventdb.backends.quorum.log import QuorumLog, open_quorum
from eventdb.backends.quorum.writer import QuorumWriter

__all__ = ["FileOps", "QuorumLog", "QuorumWriter", "open_quorum"]
