"""node: one engine on one log: rebuild, claim, commit, follow, hand over.

`node.py` owns the role, `tenure.py` the primary's side, `succession.py` the follower's side, `announcing.py` the
connection of a follower to its primary.
"""
