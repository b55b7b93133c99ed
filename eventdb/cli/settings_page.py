"""The page docs/configuration.md, made from the tables of settings.

    python -m eventdb.cli.settings_page > docs/configuration.md

A test compares the page with what this makes.
"""

from __future__ import annotations

from typing import Final

from eventdb.engine.setting import CONSTANT, FIXED, FREE, NO_EFFECT, NUMBER, ONE_OF, YES_NO, Setting
from eventdb.engine.settings import SETTINGS, Config

HEAD: Final = """# Configuration

Settings have Redis's names. At the start: `eventdb serve --config name=value`, as often as needed. While the server
runs: `CONFIG SET name value`, until it stops; there is no configuration file, and `CONFIG REWRITE` says so.
`CONFIG GET *` shows every name that Redis 7.0 knows, with the value that is true here.
"""
PARTS: Final = (
    (
        FREE,
        "Changed by CONFIG SET",
        "Each does what it says from the moment that CONFIG SET is answered.",
    ),
    (
        FIXED,
        "Chosen at the start",
        "CONFIG SET accepts only the value that such a setting has. Those whose values are *as it is* cannot be chosen"
        " at the start either.",
    ),
    (
        CONSTANT,
        "Only as it is",
        "Another value would promise something that eventdb does not do: CONFIG SET refuses it with the reason given"
        " here.",
    ),
    (
        NO_EFFECT,
        "Accepted without effect",
        "They tune machinery that eventdb does not have and promise a client nothing. Values are checked as Redis"
        " checks them and shown again by CONFIG GET.",
    ),
)


def page() -> str:
    parts, config = [HEAD], Config()
    for change, title, text in PARTS:
        what = "What it does" if change == FREE else "Why" if change in (CONSTANT, NO_EFFECT) else "Meaning"
        rows = [_row(setting, config) for setting in SETTINGS.values() if setting.change == change]
        parts.append(
            f"## {title}\n\n{text}\n\n| Setting | Default | Values | {what} |\n|---|---|---|---|\n" + "\n".join(rows)
        )
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _row(setting: Setting, config: Config) -> str:
    default = config.get(setting.name)
    default = "*the working directory*" if setting.name == "dir" else f"`{default}`" if default else "*empty*"
    return f"| `{setting.name}` | {default} | {_values(setting)} | {setting.note} |"


def _values(setting: Setting) -> str:
    if setting.change == FIXED and not setting.attribute:
        return "as it is"
    if setting.kind == YES_NO:
        return "yes, no"
    if setting.kind == ONE_OF:
        return ", ".join(setting.choices)
    if setting.kind == NUMBER:
        return f"{setting.low} to {setting.high}"
    return {0: "number", 1: "bytes (`64mb`)", 6: "numbers from 0 to 100", 7: "seconds and changes, in pairs"}.get(
        setting.kind, "text"
    )


if __name__ == "__main__":
    print(page(), end="")
