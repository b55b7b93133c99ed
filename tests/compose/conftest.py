"""The engine, the images and a stack for the tests of compose.yaml. They run by `make test-compose` alone.

Where no engine can run, what needs one is skipped and the end of the report says so in capitals; that compose.yaml is
valid is tested all the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compose.engine import Engine, EngineError, find_compose, running_engine, say
from tests.compose.stack import Stack, variables_of_compose
from tests.compose.stand_in import image_variables

if os.environ.get("EVENTDB_TEST_COMPOSE") != "1":
    collect_ignore_glob = ["test_*.py"]

NO_ENGINE = pytest.StashKey[str]()


@pytest.fixture(scope="session")
def compose() -> list[str | Path]:
    """The words that start Compose v2."""
    return find_compose()


@pytest.fixture(scope="session")
def engine(pytestconfig: pytest.Config) -> Iterator[Engine]:
    try:
        with running_engine() as found:
            yield found
    except EngineError as error:
        pytestconfig.stash[NO_ENGINE] = str(error)
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def images(engine: Engine, compose: list[str | Path]) -> Iterator[dict[str, str]]:
    """compose.yaml's image, built; the variables that name what it was built from."""
    variables = image_variables(engine, compose, variables_of_compose())
    say("building eventdb's image")
    Stack(engine, compose, "files", variables).compose("build", "--quiet", "files-primary", seconds=900)
    yield variables
    engine.docker("image", "prune", "--force")
    engine.docker("builder", "prune", "--force", "--keep-storage", "6gb")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    reason = config.stash.get(NO_ENGINE, "")
    if reason:
        terminalreporter.section("THE COMPOSE STACK WAS NOT TESTED", sep="!", red=True, bold=True)
        terminalreporter.line(f"Only `docker compose config` was. No Docker engine: {reason}")
