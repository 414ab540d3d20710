"""Environments: where one definition loads, by what a deployment's Dagster resource says."""

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Final, cast

from dlt.pipeline.pipeline import Pipeline

from dagster_dlt import _dagster, _dlt
from dagster_dlt._redaction import is_secret_name, remember
from dagster_dlt.errors import EnvironmentSettingError
from dagster_dlt.loading.branch import TEMPLATE, Branch
from dagster_dlt.loading.pipeline import directed, of_branch
from dagster_dlt.loading.plan import RunOptions

#: What Dagster+ sets in every deployment: whether it is that of a branch, and of which one.
IS_BRANCH: Final = "DAGSTER_CLOUD_IS_BRANCH_DEPLOYMENT"
NAMES: Final = ("DAGSTER_CLOUD_GIT_BRANCH", "DAGSTER_CLOUD_DEPLOYMENT_NAME")
_NO: Final = frozenset({"", "0", "false", "no"})


@dataclass(frozen=True)
class Environment:
    """Where the loads of one deployment go, and what dlt is configured with for them."""

    #: Options of `run` in place of the pipeline's own, unless a call has others.
    defaults: RunOptions = field(default_factory=RunOptions)
    #: Those that a person has chosen for this run: they win over those of a call.
    chosen: RunOptions = field(default_factory=RunOptions)
    branch: Branch | None = None
    values: _dlt.Values = field(default_factory=dict)

    @classmethod
    def of(
        cls, fields: Mapping[str, object], at_launch: frozenset[str] = frozenset()
    ) -> "Environment":
        """Return the environment that the fields of a Dagster resource describe.

        Args:
            fields: The values of the fields.
            at_launch: Names of those that were chosen for this run.

        Raises:
            EnvironmentSettingError: an environment variable is not set, or a key is twice there.
            BranchDatasetError: the template would not keep the branch apart.
        """
        names = ("destination", "dataset_name", "branch", "branch_dataset")
        found = {name: _dagster.with_variables(fields.get(name), name) for name in names}
        told = {name: found[name] for name in names[:2] if found[name]}
        return cls(
            defaults=cast("RunOptions", told),
            chosen=cast("RunOptions", {k: v for k, v in told.items() if k in at_launch}),
            branch=branch_of(found["branch"], found["branch_dataset"] or TEMPLATE),
            values=values_of(cast("Mapping[str, Any]", fields.get("config") or {})),
        )

    def configured(self) -> AbstractContextManager[None]:
        """Put the environment's values in front of dlt's configuration, within a block."""
        return _dlt.configured(self.values)

    def plain(self, pipeline: Pipeline, options: RunOptions) -> Pipeline:
        """Return the pipeline as it would be if this were no branch."""
        given = {name: value for name, value in options.items() if value is not None}
        told = cast("RunOptions", {**self.defaults, **given, **self.chosen})
        with self.configured():
            return directed(pipeline, told)

    def pipeline(self, plain: Pipeline) -> Pipeline:
        """Return the pipeline that is loaded with here.

        Args:
            plain: What `plain` has returned.

        Raises:
            BranchDatasetError: the branch cannot have a dataset of its own.
        """
        with self.configured():
            return of_branch(plain, self.branch) if self.branch else plain


def branch_of(name: str | None, template: str) -> Branch | None:
    """Return the branch that is loaded from, if it is one: by its name, or if Dagster+ says so.

    Raises:
        EnvironmentSettingError: it is one, and nothing tells its name.
        BranchDatasetError: the template would not keep it apart.
    """
    name = (name or "").strip()
    if not name and os.environ.get(IS_BRANCH, "").strip().lower() in _NO:
        return None
    found = name or next(filter(None, (os.environ.get(each, "").strip() for each in NAMES)), "")
    if not found:
        problem = f"is not known: {IS_BRANCH} is set, and neither {' nor '.join(NAMES)} is"
        field, remedy = "branch", "Give the name of the branch"
        raise EnvironmentSettingError(field, problem, remedy)
    branch = Branch(found, template)
    branch.check()
    return branch


def values_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return configuration by section and key, from keys that are nested, dotted, or both.

    What comes from an environment variable is a secret from then on, and so is what is called so.

    Raises:
        EnvironmentSettingError: a variable is not set, or a key has both a value and keys below it.
    """
    values: dict[str, Any] = {}
    for key, value in given.items():
        _put(values, _path(key), value, key)
    return values


def _path(key: str) -> list[str]:
    if "__" in key and key == key.upper():
        key = key.lower()  # as dlt has it in the environment
    return key.replace("__", ".").split(".")


def _put(values: dict[str, Any], path: list[str], value: Any, key: str) -> None:  # noqa: ANN401
    *sections, name = path
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise _twice(key)
    if isinstance(value, Mapping) and value.keys() != {"env"}:
        for inner, each in value.items():
            _put(values, [name, *_path(str(inner))], each, f"{key}.{inner}")
        return
    if name in values:
        raise _twice(key)

    def secret(found: str) -> None:
        remember({name: found})

    values[name] = _dagster.with_variables(value, f"config[{key!r}]", secret)
    if is_secret_name(name):
        secret(values[name])


def _twice(key: str) -> EnvironmentSettingError:
    problem = "stands for one value, and there is another one at the same place, or below it"
    return EnvironmentSettingError(f"config[{key!r}]", problem, "Keep one of them")
