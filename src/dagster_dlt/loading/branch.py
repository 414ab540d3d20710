"""Branches: what is loaded from one goes to datasets of its own, never to production's."""

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from dlt.pipeline.pipeline import Pipeline

from dagster_dlt import _dlt
from dagster_dlt.errors import BranchDatasetError

#: How the dataset of a branch is called, where nothing else is said.
TEMPLATE: Final = "{dataset}_{branch}"
#: Characters of a branch's name that can be read in that of its datasets.
_READABLE: Final = 24
_DIGEST: Final = 8


@dataclass(frozen=True)
class Branch:
    """A branch of the code, whose loads write apart from all others."""

    name: str
    #: What its datasets are called: `{dataset}` and `{branch}` stand for the two names.
    template: str = TEMPLATE

    @property
    def identifier(self) -> str:
        """The name as a part of an identifier.

        It always ends with a digest. Without, a branch called `staging` would have the dataset that
        dlt stages production's rows in, and `fix` of `shop_eu` the same one as `eu_fix` of `shop`.
        """
        words = re.sub("[^a-z0-9]+", "_", self.name.lower()).strip("_")[:_READABLE].strip("_")
        digest = sha256(self.name.encode()).hexdigest()[:_DIGEST]
        return f"{words}_{digest}" if words else digest

    def dataset_of(self, pipeline: Pipeline) -> str:
        """Return the dataset of this branch, for a pipeline that would load into another one.

        Raises:
            BranchDatasetError: there is none that would certainly be apart from production's.
        """
        self.check()
        destination = _dlt.destination_name(pipeline)
        if not (dataset := _dlt.dataset_apart(pipeline)):
            problem = f"destination {destination!r} has no datasets, or the pipeline names none"
            remedy = "Give DagsterDltResource(destination=) another one, or dataset_name= a name"
            raise BranchDatasetError(self.name, problem, remedy)
        if _dlt.shares_staging(pipeline):
            problem = f"all datasets of destination {destination!r} have the same staging dataset"
            remedy = "Put %s into its `staging_dataset_name_layout`"
            raise BranchDatasetError(self.name, problem, remedy)
        if _dlt.home_of(pipeline).in_working_dir:
            problem = (
                "the data are in dlt's own working directory, with the cursors of all datasets"
            )
            remedy = "Give the destination a file of its own in place of ':pipeline:'"
            raise BranchDatasetError(self.name, problem, remedy)
        return self.template.replace("{dataset}", dataset).replace("{branch}", self.identifier)

    def check(self) -> None:
        """Refuse a template by which the branch would not have a dataset of its own.

        Raises:
            BranchDatasetError: says what is wrong with it.
        """
        rest = self.template.replace("{dataset}", "").replace("{branch}", "")
        if set("{}") & set(rest):
            problem = f"template {self.template!r} has braces around something else"
        elif "{branch}" not in self.template:
            problem = f"template {self.template!r} has no {{branch}}, so it would name production's"
        else:
            return
        remedy = f"Give DagsterDltResource(branch_dataset=) a template like {TEMPLATE!r}"
        raise BranchDatasetError(self.name, problem, remedy)
