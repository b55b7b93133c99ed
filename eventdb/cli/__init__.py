"""cli: the command `eventdb`.

`app.py` holds the application, `serve` and `restore`; `status.py` looks at a running node; `log.py` has the commands
under `eventdb log`, `dev/` those under `eventdb dev` and what they start; `terminal.py` what they print with: results
on stdout, progress and errors on stderr, so that output can be piped.
Exit codes: 0 done, 1 an error or a finding (one line on stderr says which), 2 a command line that makes no sense, 130
stopped by Ctrl-C. `eventdb status` has 1 for warnings and 2 for a node that is down.
Nothing heavy is imported before a command runs: `eventdb --help` answers at once.
"""

from __future__ import annotations

import sys
from importlib import import_module

NEEDED = ("typer", "rich")


def app() -> None:
    """The command `eventdb`; says what to install where the packages of the command line are missing."""
    for name in NEEDED:
        try:
            import_module(name)
        except ModuleNotFoundError:
            sys.exit(f"eventdb: the command line needs {name}, which is not installed: pip install 'eventdb[cli]'")
    from eventdb.cli.app import app as command

    command(prog_name="eventdb")
