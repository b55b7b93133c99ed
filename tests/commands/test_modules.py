"""Every module of commands is found and registers something; none of them is code that nobody runs."""

from __future__ import annotations

import pkgutil

import pytest

from eventdb import commands
from eventdb.engine.registry import COMMANDS

MODULES = [
    found.name
    for found in pkgutil.walk_packages(commands.__path__, "eventdb.commands.")
    if not found.ispkg and not found.name.startswith("eventdb.commands.shared.")
]


def handlers_of_modules() -> set[str]:
    """The modules that have a handler in the registry."""
    commands.load()
    every = [one for command in COMMANDS.values() for one in (command, *command.subcommands.values())]
    return {one.handler.__module__ for one in every if one.handler is not None}


@pytest.mark.parametrize("module", MODULES)
def test_a_command_module_registers_a_command(module: str) -> None:
    """`load` finds a module by itself, so one without a command is dead, or belongs to commands/shared/."""
    assert module in handlers_of_modules(), f"{module} registers no command"
