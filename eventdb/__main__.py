"""`python -m eventdb` is the command `eventdb`."""

from eventdb.cli import app

if __name__ == "__main__":
    app()
