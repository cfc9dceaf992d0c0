"""Which files of a model on the hub are needed, and are they here? They are fetched into the hub's own cache.

The hub is asked once for the commit and the list of files; what the cache lacks of them is downloaded, and
the snapshot is then opened as a folder, so a model of the hub and a folder go the same way. Without a network
the newest complete snapshot in the cache is taken.
Limits: models for transformers (config.json and safetensors, or PyTorch weights where there are no others).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from cutaway.core.errors import ModelError, nearest
from cutaway.models.weights import absent, complete, names_here

SECONDS = 6  # that the hub has to answer
_SMALL = {".json", ".txt", ".model", ".jinja", ".bpe", ".tiktoken"}


def fetch(name: str, repository: str, revision: str | None = None, *, code: bool = False) -> Path:
    """The folder of a snapshot of `repository`, downloaded if need be; its name is the commit.

    Args:
        name: how the person called it (an alias, or the repository itself), for messages.
        repository: owner and name on the hub.
        revision: a branch, tag or commit; the main branch when None.
        code: whether the repository's own Python files are wanted.

    Raises:
        ModelError: unknown, gated, without weights, or out of reach and not in the cache.
    """
    from huggingface_hub import HfApi, errors, snapshot_download

    here = local(repository, revision)
    if here is not None and revision == here.name:
        return here  # a commit never changes: nothing to ask
    try:
        info = HfApi().model_info(repository, revision=revision, timeout=SECONDS)
        commit = str(info.sha)
        files = needed([file.rfilename for file in info.siblings or ()], repository, code=code)
        folder = _folder(repository) / "snapshots" / commit
        if not all((folder / file).exists() for file in files):
            folder = Path(snapshot_download(repository, revision=commit, allow_patterns=files))
        return folder
    except ModelError:
        raise
    except errors.GatedRepoError as error:
        raise _gated(repository) from error
    except errors.RevisionNotFoundError as error:
        raise ModelError(
            f"{repository!r} has no revision {revision!r}.",
            "A revision is a branch, a tag or a commit.",
            f"See them with `hf models info {repository}`, or leave `revision` out.",
        ) from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise _unknown(name) from error
    except Exception as error:
        if here is None:
            raise absent(name, _reason(error)) from error
        return here


def local(repository: str, revision: str | None = None) -> Path | None:
    """The complete snapshot of `repository` in the hub's cache, if there is one."""
    folder = _folder(repository)
    reference = folder / "refs" / (revision or "main")
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else revision
    snapshots = [folder / "snapshots" / commit] if commit else list((folder / "snapshots").glob("*"))
    return max(filter(complete, snapshots), key=lambda path: path.stat().st_mtime_ns, default=None)


def needed(files: Iterable[str], repository: str, *, code: bool = False) -> list[str]:
    """Of the files of a repository, those that opening takes: one set of weights, and the small ones."""
    top = [file for file in files if "/" not in file]
    for single, shard in (
        ("model.safetensors", r"model-\d+-of-\d+\.safetensors"),
        ("pytorch_model.bin", r"pytorch_model-\d+-of-\d+\.bin"),
    ):
        weights = [single] if single in top else [file for file in top if re.fullmatch(shard, file)]
        if weights:
            break
    if not weights or "config.json" not in top:
        others = [file for file in top if file.endswith(".gguf")]
        raise ModelError(
            f"{repository!r} has no {'weights' if 'config.json' in top else 'config.json'} for transformers.",
            f"It has {', '.join(others[:4]) or 'other files'}." if top else "It is empty.",
            f"Run `hf download {repository} {(others or ['FILE'])[0]}` and open the file it prints."
            if others
            else "Open the repository that this one was made from.",
        )
    small = {file for file in top if Path(file).suffix in _SMALL or (code and file.endswith(".py"))}
    return sorted(small | set(weights))


def _folder(repository: str) -> Path:
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"


def _reason(error: Exception) -> str:
    from huggingface_hub.errors import OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set"
    text = str(error).strip().splitlines()
    return text[0][:120] if text else type(error).__name__


def _gated(repository: str) -> ModelError:
    return ModelError(
        f"{repository!r} is gated: its owner asks you to accept terms before the weights are given out.",
        f"Accept them at https://huggingface.co/{repository} with your own account.",
        "Then run `hf auth login` on this machine and open the model again.",
    )


def _unknown(name: str) -> ModelError:
    return ModelError(
        f"There is no model {name!r}: neither here nor, for your account, on the hub.",
        f"Of the names that open here: {nearest(name, names_here())}",
        "See `cutaway models`; a private model needs `hf auth login`.",
    )
