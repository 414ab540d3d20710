"""Nothing leaks: not into events, not to other users of the machine, not into SQL."""

import html
import json
import logging
import os
import socket
import traceback
from pathlib import Path
from urllib.parse import quote, quote_plus

import dagster as dg
import dlt
import pytest
import requests
from dlt.common.configuration.utils import get_resolved_traces
from dlt.common.destination.exceptions import DestinationTerminalException
from dlt.pipeline.exceptions import PipelineStepFailed
from dlt.pipeline.pipeline import Pipeline
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_dlt import (
    DagsterDltResource,
    DagsterDltTranslator,
    DagsterDltTranslatorSettings,
    _redaction,
    build_dlt_asset_specs,
    dlt_event_iterator,
)
from dagster_dlt._redaction import (
    MARK,
    RedactedLog,
    Redaction,
    redacted,
    redacted_error,
    remember,
    secrets_in,
    shielded,
)
from dagster_dlt.errors import PendingPackagesError, ResourcesFailedError
from sources import assets_of, metadata_by_asset, one, outage

SECRET = "zu-Kx7-p@ss/w%rd"  # noqa: S105 - the one that must not be seen


#: Patterns for new secrets are compiled each time, and the machine may be busy.
unhurried = settings(deadline=None)


@pytest.fixture(autouse=True)
def _forgetful(monkeypatch):
    monkeypatch.setattr(_redaction, "_secrets", set())
    monkeypatch.setattr(_redaction, "_public", set())
    get_resolved_traces().clear()
    # What dlt writes to stderr is its own, and lands in the instance with other captured output.
    monkeypatch.setattr(logging.getLogger("dlt"), "disabled", True)


# --- text: by shape ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("to postgresql://ann:hunter2@db:5432/raw", "to postgresql://***@db:5432/raw"),
        ("postgresql+psycopg2://ann:p%40ss@db/raw", "postgresql+psycopg2://***@db/raw"),
        ("postgresql://ann:raw@p/ss@db/raw", "postgresql://***@db/raw"),
        ("snowflake://ann:two words@account/db", "snowflake://***@account/db"),
        ("https://t0ken@github.com/a/b", "https://***@github.com/a/b"),
        ("redis://:hunter2@cache", "redis://***@cache"),
        ("/items?token=abc&page=2 failed", "/items?token=***&page=2 failed"),
        ("blob?sv=2020&sig=abc%2Fdefgh&se=1", "blob?sv=2020&sig=***&se=1"),
        ("md:db?motherduck_token=abc", "md:db?motherduck_token=***"),
        ("host=db user=ann password=x1 dbname=raw", "host=db user=*** password=*** dbname=raw"),
        (r"user='an n' password='it\'s x' host=db", "user='***' password='***' host=db"),
        ("SERVER=db;UID=ann;PWD={a;b}}c};Encrypt=yes", "SERVER=db;UID=***;PWD=***;Encrypt=yes"),
        ("Server=db;User ID=sa;Password=a&b;x=1", "Server=db;User ID=***;Password=***;x=1"),
        ("aws_secret_access_key = wJalr/xUt", "aws_secret_access_key = ***"),
        ("key AKIAIOSFODNN7EXAMPLE is unknown", "key *** is unknown"),
        ('{"client_secret": "abc", "id": 1}', '{"client_secret": "***", "id": 1}'),
        ('{"auth": {"token": "abc"}}', '{"auth": {"token": "***"}}'),
        (repr({"password": "a'b", "host": "db"}), """{'password': "***", 'host': 'db'}"""),
        (json.dumps('{"password": "abc"}'), r'"{\"password\": \"***\"}"'),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("{'Authorization': 'Basic dXNlcjpwdw=='}", "{'Authorization': 'Basic ***'}"),
        ("X-Api-Key: abc", "X-Api-Key: ***"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----!", "***!"),
        ("cut off: -----BEGIN PRIVATE KEY-----\nMIIEv", "cut off: ***"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text, shown):
    assert Redaction().text(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        "postgresql://db.example.com:5432/raw",
        "http://localhost:8080/a@b",
        "http://[::1]:8080/a@b",
        "s3://bucket/path@v1",
        "duckdb:////data/warehouse.duckdb",
        'FATAL: password authentication failed for user "loader"',
        "unexpected token: select",
        "Basic authentication failed",
        "password=None",
        "max_tokens=500, primary_key=id, tokens: 12",
        "column order_id of table raw.orders has hint primary_key",
    ],
)
def test_text_without_secrets_is_not_changed(text):
    assert Redaction().text(text) == text


WORDS = st.lists(st.sampled_from(["table", "raw.orders", "failed:", "(id=1)", "at", "10:30,"]))


@unhurried
@given(WORDS.map(" ".join))
def test_prose_is_not_changed(text):
    assert Redaction(frozenset({"hunter2"})).text(text) == text


@unhurried
@given(st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1))
def test_the_user_info_of_a_url_is_hidden_whatever_it_is(password):
    encoded = quote(password, safe="")

    shown = Redaction().text(f"(to postgresql://ann:{encoded}@db:5432/raw)")

    assert shown == "(to postgresql://***@db:5432/raw)"


@unhurried
@given(st.text())
def test_hiding_twice_hides_no_more(text):
    shown = Redaction().text(text)

    assert Redaction().text(shown) == shown


# --- text: by value ------------------------------------------------------------------------------

SECRETS = st.text(
    st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), min_size=4, max_size=30
).filter(str.strip)
FORMS = [
    str,
    quote,
    quote_plus,
    lambda secret: quote(secret, safe=""),
    lambda secret: quote(secret, safe=" +"),  # SQLAlchemy's
    lambda secret: quote(quote(secret)),
    lambda secret: json.dumps(secret)[1:-1],
    lambda secret: repr(secret)[1:-1],
    lambda secret: ascii(secret)[1:-1],
    html.escape,
]
TEMPLATES = [
    "{}",
    "wrong: {}!",
    "postgresql://ann:{}@db:5432/raw",
    "https://api.example.com/items?appid={}&page=1",
    "host=db user=ann password={} dbname=raw",
    "DRIVER=x;UID=ann;PWD={};DATABASE=raw",
    '{{"pin": "{}"}}',
    "Bearer {}",
    "x{}x",
]


@unhurried
@given(SECRETS, st.sampled_from(FORMS), st.sampled_from(TEMPLATES))
def test_a_known_secret_is_hidden_in_any_form(secret, form, template):
    text = template.format(form(secret))

    shown = Redaction(frozenset({secret})).text(text)

    assert secret not in shown
    # Nor is it there in the form, as far as that is more than the words around it.
    assert form(secret) not in shown or form(secret) in template.format(MARK)


@unhurried
@given(st.frozensets(SECRETS, max_size=4), st.lists(SECRETS))
def test_no_known_secret_survives_however_they_overlap(secrets, parts):
    redaction = Redaction(secrets)

    shown = redaction.text("".join([*parts, *secrets]))

    assert not [secret for secret in secrets if secret in shown]
    assert redaction.text(shown) == shown


@pytest.mark.parametrize(
    ("value", "secrets"),
    [
        ("t0ken", {"t0ken"}),
        (b"t0ken", {"t0ken"}),
        ("postgresql://ann:p%40ss@db/raw", {"p%40ss", "p@ss"}),
        ("postgresql://db/raw", set()),
        ("https://hooks.example.com/services/T0/B0/abcdef", {"services/T0/B0/abcdef"}),
        ("https://api.example.com/v1", set()),
        ({"username": "ann", "password": "pw", "port": 5432}, {"pw"}),
        ({"auth": {"type": "bearer", "token": "abc"}}, {"abc"}),
        ({"credentials": "/data/warehouse.duckdb"}, set()),
        ({"credentials": "postgresql://ann:pw@db/raw"}, {"pw"}),
        ('{"private_key": "k", "type": "service_account"}', {"k"}),
        ("not {json", {"not {json"}),
        ("{not json", {"{not json"}),
        (["a", ("b",)], {"a", "b"}),
        (1234567, {"1234567"}),
        (5432, set()),
        (object(), set()),
    ],
)
def test_of_what_is_configured_the_secret_part_is_known(value, secrets):
    assert set(secrets_in(value)) - {""} == secrets


def test_a_password_that_is_a_public_name_too_does_not_take_it_out_of_messages():
    remember({"password": "postgres"}, public=["postgresql", "raw"])
    remember({"password": "raw"}, public=["ann"])

    assert redacted("schema raw of postgresql, user ann") == "schema raw of postgresql, user ann"
    assert redacted("postgresql://ann:postgres@db/raw") == "postgresql://***@db/raw"


def test_a_careless_password_does_not_take_words_out_of_messages():
    remember({"password": "password", "token": "test"})

    assert redacted("password=hunter2") == f"password={MARK}"
    assert redacted("password of test failed") == "password of test failed"
    assert redacted("redis://:password@cache") == f"redis://{MARK}@cache"


# --- errors --------------------------------------------------------------------------------------


def raised(message: str, cause: Exception | None = None) -> Exception:
    """Return an error that was raised."""

    def fail():
        raise ValueError(message) from cause

    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the only one there can be
        fail()
    return caught.value


def told(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def test_an_error_without_secrets_stays_the_object_it_is():
    error = raised("outer", raised("inner"))

    assert redacted_error(error) is error


def test_an_error_with_a_secret_below_it_is_copied_with_all_of_its_chain():
    remember({"token": SECRET})
    error = raised("outer", raised(f"inner {SECRET}"))

    copy = redacted_error(error)

    assert SECRET not in told(copy)
    assert told(copy).replace(MARK, SECRET) == told(error)
    assert type(copy) is type(error)
    assert SECRET in str(error.__cause__)


class StubbornError(Exception):
    def __new__(cls, code, *given):
        return super().__new__(cls, code, *given)

    def __init__(self, code, secret):
        self.code, self.secret = code, secret

    def __str__(self):
        return f"{self.code}: {self.secret}"


class UnspeakableError(Exception):
    def __str__(self):
        raise ValueError


@pytest.mark.parametrize(
    "error",
    [
        OSError(2, SECRET),
        KeyError(SECRET),
        UnicodeDecodeError("utf-8", b"x", 0, 1, SECRET),
        requests.HTTPError(SECRET, response=requests.Response()),
        PendingPackagesError("shop", [SECRET], "/w"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_copy_is_caught_like_the_original(error):
    remember({"token": SECRET})

    copy = redacted_error(error)

    assert isinstance(copy, type(error))
    assert str(copy) == redacted(str(error))
    assert SECRET not in told(copy)
    assert told(copy).partition(":")[0] == told(error).partition(":")[0]


def test_an_error_that_cannot_be_copied_is_replaced_by_a_namesake():
    remember({"token": SECRET})

    copy = redacted_error(StubbornError(7, SECRET))

    assert told(copy) == told(StubbornError(7, MARK))


def test_an_error_that_cannot_say_what_it_is_does_no_harm():
    assert isinstance(redacted_error(UnspeakableError()), UnspeakableError)


def test_attributes_of_a_copy_tell_no_secret_either():
    remember({"token": SECRET})
    inner = OSError(SECRET)
    error = ValueError(SECRET, inner)
    error.url, error.inner, error.code = f"?{SECRET}", inner, 7

    copy = redacted_error(error)

    assert SECRET not in repr((vars(copy), copy.args))
    assert copy.code == 7


def test_errors_that_refer_to_each_other_are_copied():
    remember({"token": SECRET})
    first, second = ValueError(SECRET), OSError(SECRET)
    first.other, second.other, first.__cause__ = second, first, second

    copy = redacted_error(first)

    assert SECRET not in told(copy)


def test_notes_tell_no_secret():
    remember({"token": SECRET})
    error = ValueError("x")
    error.__notes__ = [f"with {SECRET}"]

    assert redacted_error(error).__notes__ == [f"with {MARK}"]


def test_a_line_of_code_with_a_secret_in_it_is_left_out_of_the_traceback():
    remember({"token": "hard-coded-1"})

    def connect(token):
        raise ValueError(token)

    def load():
        connect("hard-coded-1")

    with pytest.raises(ValueError, match=r"^\*\*\*$") as caught:
        shielded(load)

    assert "hard-coded-1" not in "".join(traceback.format_tb(caught.value.__traceback__)[2:])
    assert "raise ValueError(token)" in told(caught.value)


def test_the_original_is_not_the_context_of_what_is_raised_for_it():
    remember({"token": SECRET})

    with pytest.raises(ValueError, match=r"\*\*\*") as caught:
        shielded(lambda: int(SECRET))

    assert caught.value.__context__ is None


def test_a_log_passes_on_everything_but_secrets(caplog):
    remember({"token": SECRET})
    log = RedactedLog(logging.getLogger("of.the.run"))
    log.info("unimportant")

    with caplog.at_level(logging.INFO):
        log.info("100 %% of %s", SECRET)
        log.error("failed", exc_info=ValueError(SECRET))

    assert [record.getMessage() for record in caplog.records] == ["100 % of ***", "failed"]
    assert SECRET not in caplog.text


# --- runs ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def instance(tmp_path_factory):
    home = str(tmp_path_factory.mktemp("instance"))
    quiet = {"telemetry": {"enabled": False}}
    with dg.DagsterInstance.local_temp(home, overrides=quiet) as instance:
        yield instance


@pytest.fixture
def stored(instance):
    """Return a function that runs assets on a real instance and returns all that it has stored."""
    home = Path(instance.root_directory)

    def run(*assets: dg.AssetsDefinition) -> str:
        result = dg.materialize(
            list(assets),
            resources={"dlt_resource": DagsterDltResource()},
            instance=instance,
            raise_on_error=False,
        )
        entries = instance.all_logs(result.run_id)
        texts = [f"{entry}\n{entry.user_message}\n{entry.to_json()}" for entry in entries]
        texts.append(repr([assets_def.specs_by_key for assets_def in assets]))
        files = [path for path in home.rglob("*") if path.is_file()]
        texts.extend(path.read_bytes().decode("utf-8", "replace") for path in files)
        return "\n".join(texts)

    return run


def forms_of(secret: str) -> set[str]:
    return {form(secret) for form in FORMS}


def leaked(text: str, secret: str = SECRET) -> list[str]:
    return [form for form in forms_of(secret) if form in text]


def failing(error, **hints) -> dlt.sources.DltSource:
    """Return a source whose resource raises."""

    def orders():
        yield [{"id": 1}]
        error()

    def build():
        return dlt.resource(orders, name="orders", **hints)

    return dlt.source(build, name="shop")()


def test_a_token_in_the_address_of_a_request_is_in_no_event(pipeline, stored):
    def error():
        address = f"https://api.example.com/items?access_token={quote(SECRET)}&page=1"
        message = f"401 Client Error for url: {address}"
        raise requests.HTTPError(message)

    text = stored(assets_of(failing(error), pipeline))

    assert "HTTPError: 401 Client Error for url: https://api.example.com/items" in text
    assert "access_token=***&page=1" in text
    assert not leaked(text)


def test_a_connection_string_is_shown_without_user_and_password(pipeline, stored):
    def error():
        # As SQLAlchemy writes it.
        password = quote(SECRET, safe=" +")
        message = f"Could not connect: postgresql+psycopg2://keeper:{password}@db.example.com/raw"
        raise OSError(message)

    text = stored(assets_of(failing(error), pipeline))

    assert "postgresql+psycopg2://***@db.example.com/raw" in text
    assert not leaked(text)
    assert "keeper" not in text


@pytest.mark.parametrize("where", ["source", "resource", "asked", "explicit", "argument"])
def test_a_secret_that_dlt_has_resolved_is_in_no_event(pipeline, stored, monkeypatch, where):
    for name in ("SHOP__KNOCK", "SHOP__ORDERS__KNOCK", "KNOCK"):
        monkeypatch.setenv(f"SOURCES__TEST_REDACTION__{name}", SECRET)
    monkeypatch.setenv("MY__KNOCK", SECRET)

    @dlt.source
    def shop(knock: str = dlt.secrets.value, token: str | None = None):
        @dlt.resource
        def orders(knock_again: str = dlt.secrets.value):
            yield [{"id": 1}]
            sent = {
                "source": knock,
                "resource": knock_again,
                "asked": dlt.secrets["my.knock"] if where == "asked" else None,
                "explicit": knock,
                "argument": token,
            }[where]
            message = f"the bouncer refused <{sent}>"
            raise PermissionError(message)

        return orders

    monkeypatch.setenv("SOURCES__TEST_REDACTION__ORDERS__KNOCK_AGAIN", "other-secret")
    if where == "resource":
        monkeypatch.setenv("SOURCES__TEST_REDACTION__ORDERS__KNOCK_AGAIN", SECRET)
    if where != "source":
        monkeypatch.setenv("SOURCES__TEST_REDACTION__SHOP__KNOCK", "other-secret")
    given = {"explicit": {"knock": SECRET}, "argument": {"token": SECRET}}.get(where, {})

    text = stored(assets_of(shop(**given), pipeline))

    assert "PermissionError: the bouncer refused <***>" in text
    assert not leaked(text)


def test_a_destination_that_cannot_be_reached_does_not_show_its_password(make_pipeline, stored):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        address = f"postgresql://keeper:{quote(SECRET, safe='')}@127.0.0.1:{port}/raw"
        pipeline = make_pipeline(destination=dlt.destinations.postgres(address))

        text = stored(assets_of(one("orders", [{"id": 1}]), pipeline))

    assert "Connection refused" in text
    assert not leaked(text)
    assert "keeper" not in text


@pytest.mark.parametrize("where", ["environment", "code"])
def test_a_destination_that_refuses_rows_with_its_password_does_not_show_it(
    make_pipeline, stored, monkeypatch, where
):
    given = {"ticket": SECRET} if where == "code" else {}
    if where == "environment":
        monkeypatch.setenv("DESTINATION__SINK__TICKET", SECRET)

    @dlt.destination(name="sink")
    def sink(items, table, ticket: str = dlt.secrets.value):
        message = f"no entry with {ticket}"
        raise DestinationTerminalException(message)

    pipeline = make_pipeline(destination=sink(**given))

    text = stored(assets_of(one("orders", [{"id": 1}]), pipeline))

    assert "no entry with ***" in text
    assert not leaked(text)


def test_an_error_that_comes_before_any_resource_shows_no_password(pipeline, stored, monkeypatch):
    def sync(self):
        message = f"postgresql://keeper:{quote(SECRET, safe='')}@db/raw is gone"
        error = ConnectionError(message)
        error.__context__ = OSError(message)
        raise error

    monkeypatch.setattr(Pipeline, "sync_destination", sync)

    text = stored(assets_of(one("orders", [{"id": 1}]), pipeline))

    assert "ConnectionError: postgresql://***@db/raw is gone" in text
    assert "OSError: postgresql://***@db/raw is gone" in text
    assert not leaked(text)


def test_a_key_made_of_where_a_resource_reads_has_no_secret_in_it(pipeline):
    source = one("orders", [{"id": 1}])
    source.orders.add_input(
        {
            "kind": "rest_api",
            "location": "https://keeper:t0ken@api.example.com/v1?api_key=abc",
            "endpoints": ["orders?access_token=abc"],
        }
    )
    translator = DagsterDltTranslator(DagsterDltTranslatorSettings(upstream="location"))

    (spec,) = build_dlt_asset_specs(source, pipeline, translator)

    assert [dep.asset_key.path for dep in spec.deps] == [
        ["https", "api.example.com", "v1", "orders_access_token____"]
    ]


def test_credentials_given_in_part_are_known(make_pipeline):
    # Without a host there is no client to ask.
    part = dlt.destinations.postgres({"username": "keeper", "password": SECRET})

    assets_of(one("orders", [{"id": 1}]), make_pipeline(destination=part))

    assert redacted(f"<{SECRET}>") == f"<{MARK}>"


def test_where_data_are_is_shown(pipeline, materialize, tmp_path):
    materialize(assets_of(one("orders", [{"id": 1}]), pipeline))

    paths = f"{tmp_path / 'warehouse.duckdb'}, {pipeline.working_dir}"
    assert redacted(paths) == paths


def test_the_message_of_a_failed_job_shows_no_password(make_pipeline, stored, monkeypatch):
    monkeypatch.setenv("LOAD__RAISE_ON_FAILED_JOBS", "false")
    monkeypatch.setattr("dlt.common.pipeline.LoadInfo.raise_on_failed_jobs", lambda _: None)

    @dlt.destination(name="sink")
    def sink(items, table):
        message = f"refused by postgresql://keeper:{quote(SECRET, safe='')}@db/raw"
        raise DestinationTerminalException(message)

    pipeline = make_pipeline(destination=sink)

    text = stored(assets_of(one("orders", [{"id": 1}]), pipeline))

    assert "failed_message" in text
    assert "refused by postgresql://***@db/raw" in text
    assert not leaked(text)


def test_a_warning_shows_no_password(pipeline, stored, monkeypatch):
    def count(dlt_pipeline, table_name):
        message = f"postgresql://keeper:{quote(SECRET, safe='')}@db/raw is gone"
        raise OSError(message)

    monkeypatch.setattr(dlt_event_iterator, "_fetch_row_count", count)

    text = stored(assets_of(one("orders", [{"id": 1}]), pipeline))

    assert "were not counted: postgresql://***@db/raw is gone" in text
    assert not leaked(text)


def test_an_error_before_the_load_shows_no_secret(pipeline, stored):
    @dlt.source
    def tenant(token=SECRET):
        message = f"token {token} has expired"
        raise PermissionError(message)

    @dg.multi_asset(specs=build_dlt_asset_specs(one("orders", [{"id": 1}]), pipeline))
    def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        yield from dlt_resource.run(context, dlt_source=tenant)

    text = stored(load)

    assert "PermissionError: token *** has expired" in text
    assert not leaked(text)


def test_a_name_at_the_destination_that_is_a_password_elsewhere_is_still_shown(
    pipeline, materialize
):
    remember({"password": "orders"})

    found = metadata_by_asset(materialize(assets_of(one("orders", [{"id": 1}]), pipeline)))

    assert found["dlt_shop_orders"]["dagster/table_name"] == "warehouse.raw.orders"
    assert redacted("table orders") == "table orders"


def test_the_chain_of_a_failure_without_secrets_is_what_dlt_raised(pipeline, materialize):
    mine = OSError("the power is gone")

    def error():
        raise mine

    with pytest.raises(dg.Failure) as caught:
        materialize(assets_of(failing(error), pipeline))

    chain = [caught.value]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    assert [type(each) for each in chain[1:3]] == [ResourcesFailedError, PipelineStepFailed]
    assert chain[-1] is mine


# --- files ---------------------------------------------------------------------------------------


@pytest.fixture
def careless():
    """Let everybody read new files, as most machines do."""
    before = os.umask(0)
    yield
    os.umask(before)


def within_reach(base: Path) -> list[Path]:
    """Return the files and folders below `base` that others may read."""
    found = []
    for path in base.iterdir():
        mode = path.stat().st_mode
        if mode & 0o077:
            found.append(path)
            if path.is_dir():
                found.extend(within_reach(path))
    return found


def test_nobody_else_reads_a_package_that_was_left(
    careless, pipeline, materialize, monkeypatch, tmp_path
):
    outage(monkeypatch)
    monkeypatch.setenv("RUNTIME__LOG_LEVEL", "CRITICAL")

    with pytest.raises(dg.Failure):
        materialize(assets_of(one("orders", [{"id": 1}]), pipeline))

    workspaces = tmp_path / "pipelines" / ".dagster"
    assert list(workspaces.rglob("*.jsonl*")) or list(workspaces.rglob("*.insert_values*"))
    assert within_reach(workspaces) == []


def test_nobody_else_reads_the_state_that_is_on_the_disk_only(
    careless, make_pipeline, materialize, monkeypatch, tmp_path
):
    monkeypatch.setenv("RESTORE_FROM_DESTINATION", "false")

    materialize(assets_of(one("orders", [{"id": 1}]), make_pipeline()))

    workspaces = tmp_path / "pipelines" / ".dagster"
    assert list(workspaces.rglob("state.json"))
    assert within_reach(workspaces) == []


def test_a_workspace_that_others_could_read_is_closed(
    careless, pipeline, materialize, monkeypatch, tmp_path
):
    outage(monkeypatch)
    opened = tmp_path / "pipelines" / ".dagster" / "shop"
    opened.mkdir(parents=True)

    with pytest.raises(dg.Failure):
        materialize(assets_of(one("orders", [{"id": 1}]), pipeline))

    assert within_reach(opened.parent) == []


# --- SQL -----------------------------------------------------------------------------------------

VERBATIM = '''
from dlt.common.normalizers.naming.naming import NamingConvention as Base


class NamingConvention(Base):
    """Leaves every name as it is."""

    is_case_sensitive = True

    def normalize_identifier(self, identifier):
        return identifier
'''


@pytest.mark.parametrize("table", ["order", "MiXed Case", "sel'ect", "x; drop table y --", "ünï"])
def test_rows_are_counted_whatever_table_and_dataset_are_called(
    make_pipeline, materialize, monkeypatch, tmp_path, table
):
    (tmp_path / "verbatim.py").write_text(VERBATIM, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SCHEMA__NAMING", "verbatim")
    pipeline = make_pipeline(dataset_name='weird "Set')

    assets = assets_of(one("orders", [{"id": 1}, {"id": 2}], table_name=table), pipeline)

    assert metadata_by_asset(materialize(assets))["dlt_shop_orders"]["dagster/row_count"] == 2
