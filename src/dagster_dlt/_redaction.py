"""Takes secrets out of what others get to read: events, errors, log lines. Standard library only.

Two nets. What looks like a secret is found by its shape, wherever it comes from: the user info of
a URL, `password=…`, a private key. And what dlt has resolved as a secret in this process is
remembered here, and found by its value, in any encoding that text arrives in. Rather one word too
many is hidden than one too few, but a secret that is a public name as well (password and user
`postgres`) or an ordinary word is not looked for: it would take that word out of every message.
"""

import html
import json
import logging
import re
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Any, Final, TypeVar, cast
from urllib.parse import unquote, urlsplit

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)

#: What stands in the place of a secret.
MARK: Final = "***"
#: A secret that is shorter is hidden by its shape only: its value would be found everywhere.
SHORTEST: Final = 4
#: What is not called a secret may look like one from this length on.
LONG: Final = 16
#: Values that are none.
_NO_VALUES: Final = frozenset({"none", "null", "true", "false", MARK})
#: Words of messages, and of the patterns below, that a careless password may be as well.
_COMMON: Final = frozenset(
    {"admin", "dagster", "default", "error", "extract", "load", "normalize", "password"}
    | {"pipeline", "postgres", "postgresql", "resource", "root", "secret", "table", "test"}
    | {"token", "user"}
)


# --- what looks like a secret --------------------------------------------------------------------

_WORD = r"pass(?:word|wd|phrase)|(?<![a-z0-9])pwd"
_KEY = r"(?:api|access|account|private|secret|signing|encryption)[_-]?key"
#: The end of a name: of `motherduck_token`, `clientSecret`, `AWS_SECRET_ACCESS_KEY`.
_NAME = rf"(?:(?P<password>{_WORD})|(?P<key>{_KEY})|secret|token)"
# An unquoted value ends at a space, or at the next parameter of a query or of an ODBC string.
_UNQUOTED = r"(?:(?![&;]\s{0,3}[\w.%-]{1,60}=)\S)*"
_QUOTED = (
    r"\"(?:[^\"\\]|\\.)*\"?"
    r"|'(?:[^'\\]|\\.)*'?"
    r"|\\+[\"'][^\"'\\]*(?:\\+[\"'])?"  # inside another string
)
_BRACED = r"\{(?:[^}]|\}\})*\}"

#: `password=…`, `PWD={…};`, `"private_key": "…"`, `token => …`. What is an object in JSON is left
#: to the names in it.
_PAIR = re.compile(
    rf"(?P<head>{_NAME}(?P<close>\\*[\"'])?\s{{0,3}}(?:=(?!=)>?|(?P<colon>:)=?)\s{{0,3}})"
    rf"(?:(?P<braced>(?<==){_BRACED})|(?P<quoted>{_QUOTED})"
    rf"|(?P<bare>(?(colon)[^\s\"'&;{{\[]|[^\s\"'&;]){_UNQUOTED}))",
    re.IGNORECASE | re.DOTALL,
)
#: The name of the user, which is hidden in a line that has a password: a connection string.
_USER = re.compile(
    r"(?P<head>(?<![a-z0-9_])(?:user(?:[ _]?(?:name|id))?|uid)\s{0,3}=(?!=)\s{0,3})"
    rf"(?:(?P<braced>{_BRACED})|(?P<quoted>{_QUOTED})|(?P<bare>[^\s\"'&;]{_UNQUOTED}))",
    re.IGNORECASE,
)
_HIDDEN_PASSWORD = re.compile(rf"(?:{_WORD})\s{{0,3}}=\s{{0,3}}\\*[\"']?\*\*\*", re.IGNORECASE)
#: Queries have shorter names too, which are ordinary words elsewhere.
_PARAMETER = re.compile(
    r"(?P<head>[?&](?:[\w.-]{0,40}(?:signature|credential)|sig|key|code|auth)=)"
    r"(?P<bare>[^\s&#\"'<>]{8,})",
    re.IGNORECASE,
)
# After the colon there is something else than a port.
_NO_PORT = r"(?!\d{0,5}(?:[\s/?#\"'<>)\],;:]|$))"
_USER_NAME = r"[^\s/?#@:\[\]]{0,256}"
#: `scheme://user:password@host`. A password that is not encoded may hold anything, so user info
#: with a colon reaches to the last `@` of the word, or else over spaces and quotes to the next one.
_USER_INFO = re.compile(
    rf"(?<=://)(?:{_USER_NAME}:{_NO_PORT}[^\s\"'<>]{{0,4096}}@"
    r"|[^\s/?#\"'<>]{1,4096}@"
    rf"|{_USER_NAME}:{_NO_PORT}[^\s@][^\n\r@]{{0,200}}@)"
)
_SCHEMES = r"(?:bearer|basic|digest|token|apikey|negotiate)"
_SHAPES: Final = (
    # A private key, whole or cut off.
    re.compile(
        r"(?P<head>)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----"
        r".*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)",
        re.DOTALL,
    ),
    # `Authorization: Bearer …`, and the same without the header's name.
    re.compile(
        rf"(?P<head>authorization\\*[\"']?\s*[:=]\s*b?\\*[\"']?{_SCHEMES}\s+)[^\s\"',\\]+",
        re.IGNORECASE,
    ),
    re.compile(
        r"(?P<head>\b(?:bearer|basic)\s+)(?=[^\s\"']{0,200}\d)[\w.~+/=-]{8,}", re.IGNORECASE
    ),
    # Keys that say by their first letters what they are: AWS, GitHub, Slack, Google, Stripe, JWT.
    re.compile(r"(?P<head>\b)(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{16}\b"),
    re.compile(r"(?P<head>\b)(?:gh[pousr]|github_pat)_\w{30,}"),
    re.compile(r"(?P<head>\b)xox[a-z]-[\w-]{10,}"),
    re.compile(r"(?P<head>\b)AIza[\w-]{35}"),
    re.compile(r"(?P<head>\b)[rs]k_(?:live|test)_\w{10,}"),
    re.compile(r"(?P<head>\b)eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"),
)
_PUNCTUATION: Final = "\"')]}>,.;:"


def _hide_shapes(text: str) -> str:
    for shape in _SHAPES:
        text = shape.sub(rf"\g<head>{MARK}", text)
    if "://" in text:
        text = _USER_INFO.sub(f"{MARK}@", text)
    text = _PARAMETER.sub(rf"\g<head>{MARK}", text)
    text = _PAIR.sub(_hide_value, text)
    if _HIDDEN_PASSWORD.search(text):
        lines = text.splitlines(keepends=True)
        text = "".join(
            _USER.sub(_hide_value, line) if _HIDDEN_PASSWORD.search(line) else line
            for line in lines
        )
    return text


def _hide_value(found: "re.Match[str]") -> str:
    before, value, after = _parts(found)
    groups = found.groupdict()
    if not value or value.lower() in _NO_VALUES:
        return found[0]
    named = not groups.get("colon") or groups["password"] or groups["key"] or groups["close"]
    if not named and len(value) < LONG and not any(map(str.isdigit, value)):
        return found[0]  # prose: `unexpected token: select`
    return f"{found['head']}{before}{MARK}{after}"


def _parts(found: "re.Match[str]") -> tuple[str, str, str]:
    """Split what follows a name into the value and what is around it."""
    groups = found.groupdict()
    if groups.get("braced"):
        return "", groups["braced"], ""
    if quoted := groups.get("quoted"):
        opening = quoted[: len(quoted) - len(quoted.lstrip("\\")) + 1]
        inside = quoted[len(opening) :]
        closing = opening if inside.endswith(opening) else ""
        return opening, inside[: len(inside) - len(closing)], closing
    bare = found["bare"]
    value = bare.rstrip(_PUNCTUATION)
    return "", value, bare[len(value) :]


# --- what is known to be a secret ----------------------------------------------------------------

_SECRET_NAME = re.compile(rf"(?:{_WORD}|{_KEY}|secret|token|credentials?)$", re.IGNORECASE)


def is_secret_name(name: str) -> bool:
    """Tell whether a field or an argument of this name holds a secret."""
    return _SECRET_NAME.search(name) is not None


def secrets_in(value: object, name: str = "") -> Iterator[str]:
    """Yield the secrets in something that was configured as one.

    Of a connection string it is the password, of a mapping what its keys or its looks tell, of any
    other text the text itself; but credentials may also be no more than the path of a file.
    """
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if isinstance(inner, Mapping) or is_secret_name(str(key)) or _looks_random(inner):
                yield from secrets_in(inner, str(key))
    elif isinstance(value, str):
        text = value.strip()
        if name.endswith("credentials") and not text.startswith("{"):
            yield from _secrets_in_connection(text)
        else:
            yield from _secrets_in_text(text)
    elif isinstance(value, bytes):
        yield from secrets_in(value.decode("utf-8", "replace"))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from secrets_in(inner)
    elif isinstance(value, int):
        yield str(value) if len(str(value)) > SHORTEST + 1 else ""  # no ports
    else:
        with suppress(Exception):  # any object at all, whose properties may do as they like
            # A SQLAlchemy engine, or the URL of one.
            password = getattr(getattr(value, "url", value), "password", None)
            yield "" if password is None else str(password)


def _secrets_in_text(text: str) -> Iterator[str]:
    if text.startswith("{"):
        try:
            yield from secrets_in(json.loads(text))
        except ValueError:
            yield text
        return
    inner = list(_secrets_in_connection(text))
    yield from inner
    if "://" not in text:
        if not inner:
            yield text
            yield from (line for line in map(str.strip, text.splitlines()) if len(line) >= LONG)
    elif text.startswith("http") and not inner:
        # The address of a webhook is a secret. Errors show its host and its path apart.
        path = urlsplit(text).path.strip("/")
        yield path if len(path) >= LONG else ""


def _secrets_in_connection(text: str) -> Iterator[str]:
    if found := _USER_INFO.search(text):
        user, colon, password = found[0][:-1].partition(":")
        secret = password if colon else user
        yield from (secret, unquote(secret))
    for each in (*_PAIR.finditer(text), *_PARAMETER.finditer(text)):
        value = _parts(each)[1]
        yield from (value, unquote(value), value.removeprefix("{").removesuffix("}"))


def _looks_random(value: object) -> bool:
    return (
        isinstance(value, str)
        and len(value) >= LONG
        and re.fullmatch(r"(?=.*\d)(?=.*[A-Za-z])[\w+=-]+", value) is not None
    )


def _encodings(secret: str) -> str:
    """Return a pattern for a secret as it is, and as URLs, JSON, HTML and `repr` write it."""
    runs = (found[0] for found in re.finditer(r"[A-Za-z0-9]+|(.)\1*", secret, re.DOTALL))
    return "".join(
        run if run.isascii() and run.isalnum() else _encoded(run[0], len(run)) for run in runs
    )


@lru_cache(maxsize=256)
def _encoded(char: str, times: int) -> str:
    percent = "".join(f"%(?:25)*{byte:02X}" for byte in char.encode("utf-8", "surrogatepass"))
    if char == "\\":
        # One quantifier for raw and doubled ones, so that a long run is not split in many ways.
        return rf"(?:\\{{{times},{2 * times}}}|(?i:{percent}){{{times}}})"
    ways = [char, json.dumps(char)[1:-1], ascii(char)[1:-1], html.escape(char), f"\\{char}"]
    ways.extend({" ": ["+"], "/": ["\\/"]}.get(char, []))
    each = "|".join(map(re.escape, dict.fromkeys(ways)))
    return f"(?:{each}|(?i:{percent})){{{times}}}"


@lru_cache(maxsize=8)
def _pattern(secrets: frozenset[str]) -> "re.Pattern[str] | None":
    # The longest first: one secret may begin with another.
    known = sorted((each for each in secrets if len(each) >= SHORTEST), key=len, reverse=True)
    return re.compile("|".join(map(_encodings, known))) if known else None


# --- taking it out -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Redaction:
    """Hides what looks like a secret, and these values.

    Attributes:
        secrets: Values to hide wherever they stand.
    """

    secrets: frozenset[str] = frozenset()

    def text(self, text: str) -> str:
        """Return `text` without secrets; text that has none comes back as it is."""
        # What stands in for one secret may complete another, or leave one that has a shape.
        for _ in range(10):
            hidden = _hide_shapes(self.known(text))
            if hidden == text:
                return text
            text = hidden
        return self.known(text)

    def known(self, text: str) -> str:
        """Return `text` without the known secrets."""
        pattern = _pattern(self.secrets)
        while pattern is not None and (hidden := pattern.sub(MARK, text)) != text:
            text = hidden
        return text

    def error(self, error: E) -> E:
        """Return `error`, or if something in its chain tells a secret, a copy that does not.

        The copy is of the same class where that can be, and has the same traceback, attributes and
        causes, all of them without secrets. The original stays as it is.
        """
        return cast("E", self._copied(error, {}))

    def _copied(self, error: BaseException, done: dict[int, BaseException]) -> BaseException:
        if id(error) in done:
            return done[id(error)]
        if not self._tells(error, set()):
            return error
        text = self.text(_text(error))
        # What refers to itself gets this one.
        done[id(error)] = _plainest(error, text)

        def plain(value: object) -> object:
            return self._plain(value, done)

        done[id(error)] = copy = next(_copies(error, text, plain))
        if error.__context__ is not None:
            copy.__context__ = self._copied(error.__context__, done)
        if error.__cause__ is not None:
            copy.__cause__ = self._copied(error.__cause__, done)
        copy.__suppress_context__ = error.__suppress_context__
        return copy.with_traceback(self._traceback(error.__traceback__))

    def _tells(self, error: BaseException, seen: set[int]) -> bool:
        if id(error) in seen:
            return False
        seen.add(id(error))
        shown = [_text(error), *map(str, getattr(error, "__notes__", ()))]
        if isinstance(error, SyntaxError):
            shown.append(str(error.text))
        below = [error.__cause__, error.__context__, *getattr(error, "exceptions", ())]
        return (
            any(self.text(each) != each for each in shown)
            or any(map(self._shows_secret, _nodes(error.__traceback__)))
            or any(self._tells(each, seen) for each in below if isinstance(each, BaseException))
        )

    def _traceback(self, found: TracebackType | None) -> TracebackType | None:
        """Return a traceback without the lines of code that have a known secret in them."""
        kept = [node for node in _nodes(found) if not self._shows_secret(node)]
        copy: TracebackType | None = None
        for node in reversed(kept):
            copy = TracebackType(copy, node.tb_frame, node.tb_lasti, node.tb_lineno)
        return copy

    def _shows_secret(self, node: TracebackType) -> bool:
        if not self.secrets:
            return False
        shown = "".join(traceback.format_list(traceback.extract_tb(node, limit=1)))
        code = shown.partition("\n")[2]  # after the name of the file
        return self.known(code) != code

    def _plain(self, value: object, done: dict[int, BaseException]) -> object:
        """Return a plain value without secrets; other objects, which no text shows, stay."""
        if type(value) is str:
            return self.text(value)
        if isinstance(value, BaseException):
            return self._copied(value, done)
        if type(value) is list:
            return [self._plain(item, done) for item in value]
        if type(value) is tuple:
            return tuple(self._plain(item, done) for item in value)
        if type(value) is dict:
            return {key: self._plain(item, done) for key, item in value.items()}
        return value


def _copies(
    error: BaseException, text: str, plain: Callable[[object], object]
) -> Iterator[BaseException]:
    """Yield copies of `error` that say `text`, those that are most like it first."""
    cls = type(error)
    speaks = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    attempts: list[Callable[[], BaseException]] = [
        lambda: _made(cls, tuple(map(plain, error.args)), error, plain),
        lambda: _made(cls, (text,), error, plain),
        lambda: _made(
            type(cls.__name__, (cls,), {**speaks, "__str__": lambda _: text}), (text,), error, plain
        ),
    ]
    for attempt in attempts:
        try:
            copy = attempt()
            says = str(copy)
        except Exception:  # noqa: BLE001, S112 - a class may refuse to be made in ways of its own
            continue
        if says == text:
            yield copy
    yield _plainest(error, text)


def _made(
    cls: type[BaseException],
    args: tuple[object, ...],
    like: BaseException,
    plain: Callable[[object], object],
) -> BaseException:
    copy = cls.__new__(cls)
    copy.args = args
    vars(copy).update({name: plain(value) for name, value in vars(like).items()})
    return copy


def _plainest(error: BaseException, text: str) -> BaseException:
    cls = type(error)
    base = Exception if isinstance(error, Exception) else BaseException
    names: dict[str, Any] = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    found: BaseException = type(cls.__name__, (base,), names)(text)
    return found


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - Python itself shows such an error without its text
        return ""


def _nodes(found: TracebackType | None) -> Iterator[TracebackType]:
    while found is not None:
        yield found
        found = found.tb_next


# --- what this process knows ---------------------------------------------------------------------

_secrets: Final[set[str]] = set()
_public: Final[set[str]] = set()


def remember(secrets: Mapping[str, object] | None = None, public: Iterable[object] = ()) -> None:
    """Hide these values from now on, in all that leaves this process through us.

    Args:
        secrets: Values that are secrets, or hold some, by the names they were configured under.
        public: Names that may be shown, such as that of a user or a dataset, though somebody may
            have the same one as a password.
    """
    found = {each for name, value in (secrets or {}).items() for each in secrets_in(value, name)}
    _secrets.update(
        each for each in found if len(each) >= SHORTEST and each.lower() not in _NO_VALUES
    )
    _public.update(str(name).casefold() for name in public if name)


def redaction() -> Redaction:
    """Return what hides all that is known by now."""
    public = _public | _COMMON
    words = "\0".join(name for name in public if name.isalpha())
    return Redaction(
        frozenset(
            secret
            for secret, folded in ((each, each.casefold()) for each in _secrets.copy())
            if folded not in public and folded not in words
        )
    )


def redacted(text: object) -> str:
    """Return the text of something, without secrets."""
    return redaction().text(str(text))


def redacted_error(error: E) -> E:
    """Return `error`, or a copy without secrets if its chain tells some."""
    return redaction().error(error)


def shielded(work: Callable[[], T]) -> T:
    """Do `work`. An error that leaves it tells no secrets."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001 - raised again, below
        problem = redacted_error(error)
    try:
        # Out of the handler: in it Python would keep the original as the context of the copy.
        raise problem
    finally:
        del problem  # a frame that is in its own traceback would keep connections open


class RedactedLog(logging.Logger):
    """Passes everything on to another logger, without secrets."""

    def __init__(self, inner: logging.Logger) -> None:
        super().__init__(inner.name)
        self._inner = inner

    def handle(self, record: logging.LogRecord) -> None:
        """Pass a record on."""
        error = record.exc_info[1] if record.exc_info else None
        shown = redacted_error(error) if error else None
        self._inner.log(record.levelno, "%s", redacted(record.getMessage()), exc_info=shown)
