"""What of a URL may be shown: everything but its secrets. Whatever names a URL in a text passes it through here.

Secrets are the password before an @, and the values of options whose names say so. Text that is no URL comes back as
it is.
"""

from __future__ import annotations

import re
from typing import Final

HIDDEN: Final = "***"
# Names end so, with - or _ between their words: sasl-password, ssl-keypassword, aws_secret_access_key, sas_token, sig.
_ENDINGS: Final = (
    r"pass|passwd|password|passphrase|secret|token|credentials?|sig|signature"
    r"|(?:secret|access|account|api|private)[-_]?key"
)
_OPTION: Final = re.compile(rf"([?&;][^=&?;#]*?(?:{_ENDINGS})=)[^&]*", re.IGNORECASE)
# The last @ ends it: a password may hold an @, a :, and a / or a ? that nobody has quoted. What cannot be the port of a
# machine is one, up to the last @ of all; what could be one may be, up to an @ before the path or the options.
_PASSWORD: Final = re.compile(r"(://[^:/?#\s@]*:)(?!\*\*\*@)(?:(?!\d{1,5}(?:[,/?#]|$))\S*|[^?\s]*|[^/\s]*)@")


def discreet(text: str) -> str:
    """A URL, or a text with URLs in it, without their secrets."""
    return _OPTION.sub(rf"\1{HIDDEN}", _PASSWORD.sub(rf"\1{HIDDEN}@", text))


def shown(url: str) -> str:
    """As it may be shown: of a command the program, for its arguments may hold what lets it in."""
    scheme, _colon, where = url.partition(":")
    words = where.split()
    return f"command:{words[0]}{' ...' * (len(words) > 1)}" if scheme == "command" and words else discreet(url)
