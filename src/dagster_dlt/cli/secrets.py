"""Keeps credentials out of what a command prints."""

import re
from typing import Final

#: How credentials stand in what drivers say: in a URL, or by a keyword.
_SECRETS: Final = (
    (re.compile(r"://[^\s'\"]*@"), "://"),
    (re.compile(r"(?i)\b(\w*(?:password|passwd|pwd|secret|token))\s*[=:]\s*[^\s;,]+"), r"\1=***"),
)


def without_secrets(text: str) -> str:
    """Return a text without user and password in URLs, and without the values of secret words."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text
