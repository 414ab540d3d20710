"""Load packages on the disk."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

from dlt.common.storages import FileStorage, LoadStorage, NormalizeStorage
from dlt.common.storages.load_package import PackageStorage, load_package_state
from dlt.pipeline.pipeline import Pipeline

#: Key of ours in the state of a package, which dlt keeps with it.
_LABEL: Final = "dagster_dlt"


def normalized_packages(pipeline: Pipeline) -> PackageStorage:
    """Return where `pipeline` keeps the packages that are to be loaded."""
    return pipeline._get_load_storage().normalized_packages


def remember_schemas(pipeline: Pipeline) -> None:
    """Let `pipeline` know the schemas of packages that it has extracted.

    dlt writes down what a package is about after it has written the package. A process that dies
    between leaves a first package that dlt would not normalize, for want of a schema.
    """
    packages = pipeline._get_normalize_storage().extracted_packages
    for load_id in pipeline.list_extracted_load_packages():
        schema = packages.load_schema(load_id)
        if schema.name not in pipeline.schema_names:
            pipeline._inject_schema(schema)


def stores_below(working_dir: Path) -> tuple[PackageStorage, PackageStorage, PackageStorage]:
    """Return where a working directory has its extracted, normalized and completed packages.

    A pipeline object would know, but to make one writes to the directory, which may be in use.
    """
    extracted = working_dir / "normalize" / NormalizeStorage.EXTRACTED_FOLDER
    load = working_dir / "load"
    return (
        PackageStorage(FileStorage(str(extracted)), "extracted"),
        PackageStorage(FileStorage(str(load / LoadStorage.NORMALIZED_FOLDER)), "normalized"),
        PackageStorage(FileStorage(str(load / LoadStorage.LOADED_FOLDER)), "loaded"),
    )


def label_package(label: Mapping[str, Any]) -> None:
    """Write down what a package is about, in the one that is being extracted where this is called.

    So it is there from the first on; dlt puts it on the disk with the package.
    """
    cast("dict[str, Any]", load_package_state()["state"])[_LABEL] = label


def label_of(pipeline: Pipeline, load_id: str) -> Mapping[str, Any]:
    """Return what was written down in a normalized package; nothing, if nothing was."""
    state = normalized_packages(pipeline).get_load_package_state(load_id)
    return cast("Mapping[str, Any]", state.get(_LABEL, {}))


def finish_package(pipeline: Pipeline, load_id: str) -> None:
    """Move a package away that was committed, when its process did not come to do so.

    dlt marks it first, and never moves one that it finds with a mark.
    """
    storage = pipeline._get_load_storage()
    if storage.normalized_packages.is_package_completed(load_id):
        storage.storage.rename_tree(
            storage.get_normalized_package_path(load_id), storage.get_loaded_package_path(load_id)
        )
    else:
        storage.complete_load_package(load_id, aborted=False)


def finish_endings(pipeline: Pipeline) -> None:
    """Finish what dlt had begun to put away when its process died.

    It removes what it has normalized, or half of that, after the normalized package is there; and
    would fail to normalize it again. It marks what is loaded or aborted before it moves it.
    """
    packages = normalized_packages(pipeline)
    extracted = pipeline._get_normalize_storage().extracted_packages
    for load_id in set(pipeline.list_extracted_load_packages()).intersection(
        pipeline.list_normalized_load_packages()
    ):
        extracted.delete_package(load_id)
    for load_id in pipeline.list_normalized_load_packages():
        if packages.is_package_completed(load_id):
            mark = Path(packages.get_package_path(load_id)) / packages.PACKAGE_COMPLETED_FILE_NAME
            was_aborted = packages.storage.load(str(mark)) == "aborted"
            finish_package(pipeline, load_id)
            if was_aborted:
                pipeline._cleanup_aborted_package(load_id)  # the cursors are put back
    if any(map(packages.has_abort_flag, pipeline.list_normalized_load_packages())):
        # It does not count as pending, and would take along what is extracted next.
        pipeline.load()
