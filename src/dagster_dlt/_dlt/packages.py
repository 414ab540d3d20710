"""Load packages on the disk."""

from pathlib import Path

from dlt.common.storages import FileStorage, LoadStorage, NormalizeStorage
from dlt.common.storages.load_package import PackageStorage
from dlt.pipeline.pipeline import Pipeline


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


def finish_package(pipeline: Pipeline, load_id: str) -> None:
    """Move a package away that was committed, when its process did not come to do so."""
    pipeline._get_load_storage().complete_load_package(load_id, aborted=False)
