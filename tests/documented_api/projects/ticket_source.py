"""A source as `dlt init` would have written it: the other projects import it."""

import dlt


@dlt.source
def tickets(owner, repository, max_items=None, access_token: str = dlt.secrets.value):
    """Two tables of a repository's tickets; the token comes from the environment."""
    rows = [
        {"number": n, "repository": f"{owner}/{repository}", "token": bool(access_token)}
        for n in range(1, 5)
    ][:max_items]
    return (
        dlt.resource(rows, name="issues", primary_key="number", write_disposition="merge"),
        dlt.resource(rows[:1], name="pull_requests", write_disposition="replace"),
    )
