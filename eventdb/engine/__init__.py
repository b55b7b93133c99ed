"""engine: running commands on one node, sans-IO.

`engine.py` dispatches, `registry.py` holds the facts of each command, `client.py` what a connection has chosen and is
still owed, `gates.py` the rare checks before a command runs. `plain_run.c` runs the hottest commands without a Python
object for each (`plain_values.h`, `plain_ranks.h`, `plain_parts.h`) and calls the handlers of others; it is optional,
and `plain_runs.py` is the door to it.
"""
