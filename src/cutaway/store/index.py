"""Where do results go so that they are found again? Into a store: an index to search, and a file for each result.

`Store.open()` opens the store of this user, or the one that CUTAWAY_STORE names: a folder, or a PostgreSQL
database with a folder. Any number of processes may use it at once, and any of them may be killed at any
moment: what was said to be kept is there when it is opened again, whole.
Limits: title, tags and notes are in the index alone; back up a store with `export`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cutaway.store import checking, jobs, keeping, transfer
from cutaway.store.checking import Freed, Report
from cutaway.store.ground import Ground, NotKept, open_ground
from cutaway.store.jobs import Job
from cutaway.store.shelves import (
    ARTIFACTS,
    RESULTS,
    SHELVES,
    ArtifactSummary,
    Page,
    ResultSummary,
    row_of_artifact,
    row_of_result,
)
from cutaway.store.transfer import Transferred

if TYPE_CHECKING:
    from cutaway.core.artifact import Artifact
    from cutaway.core.result import Result

__all__ = [
    "ArtifactSummary",
    "Freed",
    "Job",
    "NotKept",
    "Page",
    "Report",
    "ResultSummary",
    "Store",
    "Transferred",
]


@dataclass(frozen=True)
class Store:
    """An opened store. Close it, or use it in a `with` block; threads may share it, a forked process may not."""

    ground: Ground

    @classmethod
    def open(cls, place: str | Path | None = None, *, files: str | Path | None = None) -> Store:
        """Open a store, or make one.

        What a killed process left behind is put in order: finished files without a row are taken in, deletions
        are gone on with, and jobs whose process is gone become `interrupted`.

        Args:
            place: a folder, or the URL of a PostgreSQL database; by default what the environment variable
                CUTAWAY_STORE says, or else `store` in the user's data folder.
            files: the folder of the files, where `place` is a URL.

        Raises:
            StoreError: the place cannot be used, or was made by a newer cutaway.
        """
        ground = open_ground(place, files)
        try:
            for shelf in SHELVES:
                keeping.finish_leaving(ground, shelf)
            unlisted = checking.take_in_unlisted(ground)
            jobs.interrupt_abandoned(ground)
        except BaseException:
            ground.engine.dispose()
            raise
        if unlisted > checking.AT_OPENING:
            advice = "`cutaway store check --repair` takes all of them in."
            warnings.warn(f"The store has {unlisted} files that are not in its index. {advice}", stacklevel=2)
        return cls(ground)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *of_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back the connections to the database."""
        self.ground.engine.dispose()

    @property
    def place(self) -> str:
        """Where the store is: its folder, or the URL of its database without the password."""
        return self.ground.place

    @property
    def files(self) -> Path:
        """The folder of its files."""
        return self.ground.objects.folder

    def add_result(self, result: Result, *, title: str = "", job: str | None = None) -> str:
        """Keep a result. When this returns it is on the disk, whole; one that is there already stays as it is.

        Args:
            result: what to keep.
            title: what to call it in lists.
            job: the id of the job that made it.

        Returns:
            Its id.

        Raises:
            StoreError: it cannot be written.
        """
        from cutaway.store.netcdf import save

        row = row_of_result(result)
        return keeping.keep(self.ground, RESULTS, result.id, row, lambda path: save(result, path), title=title, job=job)

    def result(self, id: str) -> Result:
        """The result with this id, or the one whose id begins like this.

        Raises:
            NotKept: there is none.
            StoreError: its file is gone or damaged.
        """
        from cutaway.store.netcdf import load

        return load(self.path(id))

    def path(self, id: str) -> Path:
        """The NetCDF file of a result.

        Raises:
            NotKept: there is none.
            StoreError: the file is gone.
        """
        return keeping.path_of(self.ground, RESULTS, id)

    def summary(self, id: str) -> ResultSummary:
        """What a list shows of a result.

        Raises:
            NotKept: there is none.
        """
        return keeping.summary(self.ground, RESULTS, id)

    def results(
        self,
        *,
        text: str = "",
        method: str = "",
        model: str = "",
        task: str = "",
        tag: str = "",
        order: str = "-created",
        limit: int = 50,
        offset: int = 0,
    ) -> Page[ResultSummary]:
        """A part of the list of results.

        Args:
            text: words that must all occur in what the list shows of it, its prompts among them.
            method: the method, in full.
            model: the model, in full.
            task: the task, in full.
            tag: a tag.
            order: created, title, method, model, task, seconds or bytes; with `-` in front from the largest down.
            limit: how many at most.
            offset: how many to leave out before.

        Raises:
            ParameterError: an order that there is not, or numbers that cannot be.
        """
        filters = {"method": method, "model": model, "task": task}
        return keeping.listed(
            self.ground, RESULTS, filters, text=text, tag=tag, order=order, limit=limit, offset=offset
        )

    def update_result(
        self, id: str, *, title: str | None = None, tags: Sequence[str] | None = None, note: str | None = None
    ) -> ResultSummary:
        """Write what you say about a result; None leaves as it is.

        Raises:
            NotKept: there is none.
            ParameterError: something too long.
        """
        return keeping.amend(self.ground, RESULTS, id, title, tags, note)

    def delete_result(self, id: str) -> None:
        """Delete a result with its file.

        Raises:
            NotKept: there is none.
        """
        keeping.remove(self.ground, RESULTS, self.summary(id).id)

    def add_artifact(self, artifact: Artifact, *, title: str = "", job: str | None = None) -> str:
        """Keep an artifact, as `add_result` keeps a result."""
        from cutaway.store.artifacts import save

        row = row_of_artifact(artifact)
        return keeping.keep(
            self.ground, ARTIFACTS, artifact.id, row, lambda path: save(artifact, path), title=title, job=job
        )

    def artifact(self, id: str) -> Artifact:
        """The artifact with this id, or the one whose id begins like this.

        Raises:
            NotKept: there is none.
            StoreError: its file is gone or damaged.
        """
        from cutaway.store.artifacts import load

        return load(self.artifact_path(id))

    def artifact_path(self, id: str) -> Path:
        """The safetensors file of an artifact.

        Raises:
            NotKept: there is none.
            StoreError: the file is gone.
        """
        return keeping.path_of(self.ground, ARTIFACTS, id)

    def artifact_summary(self, id: str) -> ArtifactSummary:
        """What a list shows of an artifact.

        Raises:
            NotKept: there is none.
        """
        return keeping.summary(self.ground, ARTIFACTS, id)

    def artifacts(
        self,
        *,
        text: str = "",
        kind: str = "",
        tag: str = "",
        order: str = "-created",
        limit: int = 50,
        offset: int = 0,
    ) -> Page[ArtifactSummary]:
        """A part of the list of artifacts; arguments as of `results`, orders: created, title, kind, bytes.

        Raises:
            ParameterError: an order that there is not, or numbers that cannot be.
        """
        filters = {"kind": kind}
        return keeping.listed(
            self.ground, ARTIFACTS, filters, text=text, tag=tag, order=order, limit=limit, offset=offset
        )

    def update_artifact(
        self, id: str, *, title: str | None = None, tags: Sequence[str] | None = None, note: str | None = None
    ) -> ArtifactSummary:
        """Write what you say about an artifact; None leaves as it is.

        Raises:
            NotKept: there is none.
            ParameterError: something too long.
        """
        return keeping.amend(self.ground, ARTIFACTS, id, title, tags, note)

    def delete_artifact(self, id: str) -> None:
        """Delete an artifact with its file.

        Raises:
            NotKept: there is none.
        """
        keeping.remove(self.ground, ARTIFACTS, self.artifact_summary(id).id)

    def add_job(self, spec: Mapping[str, Any]) -> Job:
        """Write down a piece of work that is asked for. `spec["kind"]` is `method` (if not said) or `explain`.

        Raises:
            ParameterError: another kind.
        """
        return jobs.add(self.ground, spec)

    def job(self, id: str) -> Job:
        """The job with this id.

        Raises:
            NotKept: there is none.
        """
        return jobs.get(self.ground, id)

    def jobs(self, state: str = "", limit: int = 50) -> tuple[Job, ...]:
        """Jobs, the latest first; those in one state where it is named.

        Raises:
            ParameterError: a state that there is not.
        """
        return jobs.latest(self.ground, state, limit)

    def update_job(self, id: str, **fields: Any) -> Job:
        """Write how far a job is: state, what, done, total, fraction, error, results, report, started, finished.

        The process that says `state="running"` is taken for the one that runs it. A state brings its time
        (`started`, `finished`), and `done` with `total` bring the fraction, unless they are said too.

        Raises:
            NotKept: there is no such job.
            ParameterError: a field or a state that there is not, or a job that has ended already.
        """
        return jobs.change(self.ground, id, fields)

    def check(self, *, repair: bool = False) -> Report:
        """Compare the index with the files, reading all of them; with `repair`, mend what can be mended."""
        return checking.check(self.ground, repair=repair)

    def gc(self, *, older_than: float = 3600.0, damaged: bool = False) -> Freed:
        """Delete what cannot be used any more: unfinished files, rows without files, on request damaged files.

        Args:
            older_than: seconds since an unfinished file was last written to.
            damaged: delete damaged results and artifacts too.

        Raises:
            StoreError: the folder has none of many files, as when its disk is not there.
        """
        return checking.clear(self.ground, older_than=older_than, damaged=damaged)

    def export(self, path: str | Path, ids: Sequence[str] | None = None) -> Transferred:
        """Write one zip of everything, or of the results and artifacts with these ids.

        Raises:
            NotKept: an id that there is not.
            StoreError: something is damaged, or the zip cannot be written.
        """
        return transfer.export(self.ground, Path(path), ids)

    def import_(self, path: str | Path) -> Transferred:
        """Take in a zip that `export` wrote, or one saved result (.nc) or artifact (.safetensors).

        Raises:
            StoreError: it is something else, or damaged.
        """
        return transfer.import_(self.ground, Path(path))
