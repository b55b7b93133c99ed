"""cli: the command `eventdb`.

`app.py` holds the application, `serve` and `restore`; `logs.py` the commands under `eventdb log`; `dev.py` those
under `eventdb dev` and `brokers.py` what they start; `screen.py` what
they print with: results on stdout, progress and errors on stderr, so that output can be piped. Exit codes: 0 done, 1 an
error or a finding (one line on stderr says which), 2 a command line that makes no sense, 130 stopped by Ctrl-C.
Nothing heavy is imported before a command runs: `eventdb --help` answers at once.
"""

from eventdb.cli.app import app

__all__ = ["app"]
