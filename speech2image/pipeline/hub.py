"""Model hub: models by "hf://user/name", fetched from and pushed to Hugging Face or a server like it.

Nothing here runs unless such a name is given. `HF_ENDPOINT` names another server, `HF_TOKEN` a token, which
is sent to that server alone. What was fetched lies in the cache under its revision and is not fetched again;
every network's checksum is compared whenever it is opened (`registry.Model.read`).
"""

import base64
import hashlib
import json
import os
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speech2image.errors import CheckpointError, SettingsError, printable
from speech2image.files import is_plain_name, writing
from speech2image.pipeline.card import MAX_CARD_BYTES, MAX_NETWORK_BYTES, read_json_card
from speech2image.pipeline.readme import README, readme
from speech2image.pipeline.registry import CARD, RECOGNIZER_CARD, Model

PREFIX = "hf://"
SECONDS = 60.0
"""Without an answer for so long, the server is given up."""
_NAME = re.compile(
    r"hf://([A-Za-z0-9][\w.-]{0,95})/([A-Za-z0-9][\w.-]{0,95})(?:@([A-Za-z0-9][\w./-]{0,99}))?"
)
_REVISION = re.compile("[0-9a-f]{40,64}")
_LARGE = (".onnx", ".safetensors")
"""Files that hubs keep outside git (LFS)."""


@dataclass(frozen=True)
class Place:
    """A model at a hub: user, name, and a branch, tag or commit."""

    user: str
    name: str
    revision: str = "main"

    @classmethod
    def of(cls, text: str) -> "Place":
        """The place that "hf://user/name" or "hf://user/name@revision" names.

        Raises:
            SettingsError: it names none.
        """
        found = _NAME.fullmatch(text)
        if found is None:
            raise SettingsError(
                f"'{text}' names no model at a hub; write hf://user/name or hf://user/name@revision"
            )
        return cls(found[1], found[2], found[3] or "main")

    @property
    def repository(self) -> str:
        return f"{self.user}/{self.name}"


def endpoint() -> str:
    """The hub's address, without a slash at its end.

    Raises:
        SettingsError: `HF_ENDPOINT` is no address.
    """
    found = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    if not re.match(r"https?://[^/]", found):
        raise SettingsError(f"HF_ENDPOINT is {found!r}; give an address that begins with https://")
    return found


def cache_folder() -> Path:
    """Where fetched models lie: `$XDG_CACHE_HOME/speech2image/hub`, by default below `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "speech2image" / "hub"


# ---- fetching ------------------------------------------------------------------------------------


def fetch(name: str) -> Path:
    """The folder of a model at a hub, fetched if this revision is not in the cache.

    Without the network, what the branch was when it was last asked for is taken, with a warning.

    Args:
        name: "hf://user/name" or "hf://user/name@revision".

    Raises:
        SettingsError: the name or `HF_ENDPOINT` is none.
        CheckpointError: there is no such model, it is not whole, or it cannot be fetched.
        OutputError: the cache cannot be written.
    """
    place = Place.of(name)
    home = cache_folder() / f"{place.user}--{place.name}"
    note = home / f"{place.revision.replace('/', '--')}.json"
    try:
        facts = _facts_of(place)
    except CheckpointError as error:
        folder = _known(note, home)
        if folder is None or not isinstance(error.__cause__, OSError) or _is_answer(error.__cause__):
            raise
        warnings.warn(f"{error}; what was fetched before is taken", stacklevel=2)
        return folder
    fetched: Path = home / facts["sha"]
    if not (fetched / CARD).is_file():
        _download(place, facts, fetched)
    with writing(note) as temporary:
        temporary.write_text(json.dumps({"sha": facts["sha"]}), encoding="utf-8")
    return fetched


def _known(note: Path, home: Path) -> Path | None:
    try:
        sha = str(json.loads(note.read_text(encoding="utf-8"))["sha"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    folder = home / sha
    return folder if _REVISION.fullmatch(sha) and (folder / CARD).is_file() else None


def _is_answer(error: BaseException) -> bool:
    return isinstance(error, urllib.error.HTTPError)


def _facts_of(place: Place) -> dict[str, Any]:
    """The commit that a revision stands for ("sha"), and the names of its files ("files")."""
    revision = urllib.parse.quote(place.revision, safe="")
    said = _json_of(f"{endpoint()}/api/models/{place.repository}/revision/{revision}", place)
    sha, listed = said.get("sha"), said.get("siblings")
    if not isinstance(sha, str) or not _REVISION.fullmatch(sha) or not isinstance(listed, list):
        raise CheckpointError(f"{endpoint()} gave no list of the files of {place.repository}")
    return {"sha": sha, "files": [str(one.get("rfilename")) for one in listed if isinstance(one, dict)]}


def _download(place: Place, facts: Mapping[str, Any], folder: Path) -> None:
    there = set(facts["files"])
    if CARD not in there:
        raise CheckpointError(f"{PREFIX}{place.repository} is no model of speech2image: it has no {CARD}")
    with writing(folder) as temporary:
        temporary.mkdir()
        _get_file(place, facts["sha"], CARD, temporary / CARD, MAX_CARD_BYTES)
        card = read_json_card(temporary / CARD)
        wanted = _files_of(card, place) | ({README} & there)
        if is_plain_name(inner := card.get("recognizer")):
            wanted |= {
                one
                for one in there
                if one.startswith(f"{inner}/")
                and is_plain_name(one.removeprefix(f"{inner}/"))
                and one.endswith((".onnx", RECOGNIZER_CARD))
            }
        missing = sorted(wanted - there)
        if missing:
            raise CheckpointError(f"{PREFIX}{place.repository} is not whole: it lacks {', '.join(missing)}")
        print(
            f"fetching {place.repository} ({len(wanted) + 1} files, licence "
            f"{printable(str(card.get('licence', 'unstated')))})",
            file=sys.stderr,
        )
        for name in sorted(wanted):
            (temporary / name).parent.mkdir(exist_ok=True)
            _get_file(place, facts["sha"], name, temporary / name, MAX_NETWORK_BYTES)


def _files_of(card: Mapping[str, Any], place: Place) -> set[str]:
    """The files of networks that a card names; checked further when the folder is opened."""
    files = card.get("files")
    names = (
        [one.get("file") for one in files.values() if isinstance(one, dict)]
        if isinstance(files, dict)
        else []
    )
    if not names or not all(is_plain_name(name) for name in names):
        raise CheckpointError(
            f"{CARD} of {PREFIX}{place.repository} is damaged: it names no files of networks"
        )
    return {str(name) for name in names}


def _get_file(place: Place, sha: str, name: str, to: Path, most: int) -> None:
    address = f"{endpoint()}/{place.repository}/resolve/{sha}/{urllib.parse.quote(name)}"
    with _answer(address, place) as answer, open(to, "wb") as file:
        left = most
        while block := answer.read(min(2**20, left + 1)):
            left -= len(block)
            if left < 0:
                raise CheckpointError(f"{name} of {place.repository} is larger than {most} bytes")
            file.write(block)


def _json_of(address: str, place: Place, **request: Any) -> dict[str, Any]:
    with _answer(address, place, **request) as answer:
        content = answer.read(MAX_CARD_BYTES)
    try:
        found = json.loads(content or b"{}")
    except ValueError as error:
        raise CheckpointError(f"{endpoint()} answered something else than JSON") from error
    return found if isinstance(found, dict) else {}


@contextmanager
def _answer(
    address: str,
    place: Place,
    *,
    content: bytes | None = None,
    kind: str = "application/json",
    method: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Iterator[Any]:
    """What a server answers; the token goes to the hub alone, not to where it redirects."""
    request = urllib.request.Request(address, content, dict(headers or {}), method=method)
    if content is not None:
        request.add_header("Content-Type", kind)
    token = os.environ.get("HF_TOKEN")
    if token and address.startswith(f"{endpoint()}/"):
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            yield answer
    except urllib.error.HTTPError as error:
        if error.code in (401, 403, 404):
            raise CheckpointError(
                f"{endpoint()} has no {place.repository} at '{place.revision}', or it is private or not "
                f"yours ({error.code}); check the name, and set HF_TOKEN to a token that may read or write it"
            ) from error
        said = error.read(300).decode(errors="replace")
        raise CheckpointError(f"{endpoint()} answered {error.code} {error.reason}: {said}") from error
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise CheckpointError(f"{endpoint()} cannot be reached ({reason})") from error


# ---- pushing -------------------------------------------------------------------------------------


def push(model: Model, to: str, *, private: bool = False, message: str = "") -> str:
    """Put a model folder at a hub, whole: networks that it shares with other folders, too.

    Args:
        model: the folder; its README is written from its card if it has none.
        to: "hf://user/name", made if it is not there.
        private: make it private.
        message: of the commit.

    Returns:
        The address of the model's page.

    Raises:
        SettingsError: the name is none, or `HF_TOKEN` is not set.
        CheckpointError: the model is damaged, or the hub refuses.
    """
    place = Place.of(to)
    if not os.environ.get("HF_TOKEN"):
        raise SettingsError(
            "pushing needs a token that may write: set HF_TOKEN (huggingface.co/settings/tokens)"
        )
    contents = whole_contents(model)
    hub = endpoint()
    _create(place, private)
    large = {name: content for name, content in contents.items() if name.endswith(_LARGE)}
    _upload(place, large)
    lines: list[dict[str, Any]] = [
        {
            "key": "header",
            "value": {"summary": message or f"speech2image push {model.name}", "description": ""},
        }
    ]
    for name, content in contents.items():
        if name in large:
            sha = hashlib.sha256(content).hexdigest()
            value = {"path": name, "algo": "sha256", "oid": sha, "size": len(content)}
            lines.append({"key": "lfsFile", "value": value})
        else:
            text = base64.b64encode(content).decode()
            lines.append({"key": "file", "value": {"path": name, "content": text, "encoding": "base64"}})
    body = "".join(json.dumps(line) + "\n" for line in lines).encode()
    revision = urllib.parse.quote(place.revision, safe="")
    address = f"{hub}/api/models/{place.repository}/commit/{revision}"
    _json_of(address, place, content=body, kind="application/x-ndjson")
    return f"{hub}/{place.repository}"


def whole_contents(model: Model) -> dict[str, bytes]:
    """All files of a model that stands alone: what lies in other folders is taken in.

    Raises:
        CheckpointError: a file is missing or damaged, or the model hears with another model's encoder.
    """
    files, contents = {}, {}
    for network in model.networks:
        entry = {key: value for key, value in model.card["files"][network].items() if key != "of"}
        contents[entry["file"]] = model.read(network)
        files[network] = entry
    recognizer = model.recognizer
    if recognizer is not None:
        if not (recognizer / RECOGNIZER_CARD).is_file():
            raise CheckpointError(
                f"model '{model.name}' hears with the encoder of the model in {recognizer}, which cannot go "
                "along; push that model, and this one with a recognizer of its own (export cascade)"
            )
        for path in sorted((*recognizer.glob("*.onnx"), recognizer / RECOGNIZER_CARD)):
            contents[f"{model.card['recognizer']}/{path.name}"] = path.read_bytes()
    for path in sorted(model.folder.glob("*.safetensors")):
        contents[path.name] = path.read_bytes()
    card = {**model.card, "files": files}
    own = model.folder / README
    contents[README] = own.read_bytes() if own.is_file() else readme(card).encode()
    contents[CARD] = (json.dumps(card, indent=2, ensure_ascii=False) + "\n").encode()
    return contents


def _create(place: Place, private: bool) -> None:
    body = {"type": "model", "name": place.name, "organization": place.user, "private": private}
    try:
        _json_of(f"{endpoint()}/api/repos/create", place, content=json.dumps(body).encode())
    except CheckpointError as error:
        cause = error.__cause__
        if not (isinstance(cause, urllib.error.HTTPError) and cause.code == 409):  # it is there
            raise


def _upload(place: Place, contents: Mapping[str, bytes]) -> None:
    """Put large files into the hub's storage (Git LFS, "basic" transfers)."""
    by_digest = {hashlib.sha256(content).hexdigest(): content for content in contents.values()}
    if not by_digest:
        return
    body = {
        "operation": "upload",
        "transfers": ["basic"],
        "hash_algo": "sha256",
        "objects": [{"oid": sha, "size": len(content)} for sha, content in by_digest.items()],
    }
    kind = "application/vnd.git-lfs+json"
    said = _json_of(
        f"{endpoint()}/{place.repository}.git/info/lfs/objects/batch",
        place,
        content=json.dumps(body).encode(),
        kind=kind,
        headers={"Accept": kind},
    )
    for one in said.get("objects", []):
        actions = one.get("actions") or {}
        if "error" in one or one.get("oid") not in by_digest:
            raise CheckpointError(f"{endpoint()} does not take a file: {one.get('error') or one.get('oid')}")
        upload = actions.get("upload")  # none where it has the file already
        if upload:
            content = by_digest[one["oid"]]
            kind_sent = "application/octet-stream"
            with _answer(
                upload["href"],
                place,
                content=content,
                kind=kind_sent,
                method="PUT",
                headers=upload.get("header"),
            ):
                pass
        verify = actions.get("verify")
        if verify:
            sent = {"oid": one["oid"], "size": len(by_digest[one["oid"]])}
            with _answer(
                verify["href"],
                place,
                content=json.dumps(sent).encode(),
                kind=kind,
                headers=verify.get("header"),
            ):
                pass
