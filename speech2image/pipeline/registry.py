"""Model registry: a name or a path -> the model folder, its checksums, its licence (`loading.load` opens it).

A model folder holds `model.json` (written by `export`), `speech_encoder.onnx`, `generator.onnx` and, if
the model has them, `condition_prior.onnx`, which samples an image feature for an embedding, and
`speech_detector.onnx`, which tells speech from other sounds. One of the route through text
(`"route": "cascade"`, written by `export/cascade.py`) has `text_encoder.onnx` in place of the speech encoder,
and may name a speech recognizer: a folder in it, beside it or among the shipped models. In the same way
models of both routes may draw with another model's generator. The shipped ones lie in
`pretrained_models/<name>/` inside this package. `<name>-cascade` is the cascade that belongs to the model
`<name>`.
"""

import difflib
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from speech2image.audio.front_ends import FrontEnd, stated_front_end
from speech2image.errors import CheckpointError, SettingsError
from speech2image.pipeline.card import MAX_CARD_BYTES, Card, check_card, name_of, read_content, read_json_card
from speech2image.pipeline.domain_words import DomainWords, check_domain_words
from speech2image.pipeline.domains import Domains, check_domains
from speech2image.pipeline.routes import LANGUAGE_MODEL, OPTIONAL, PRIOR, ROUTES, WORDS_DECODER, WORDS_MEMORY

MODELS_FOLDER = Path(__file__).parents[1] / "pretrained_models"
CARD = "model.json"
INPUTS, OUTPUTS = "inputs", "outputs"
"""What a card calls the names of a network's inputs and outputs, in their order."""
OLD_SIGNATURES = {
    "speech_encoder": (("log_mel", "n_frames"), "speech_embedding"),
    "condition_prior": (("embedding", "noise"), "feature"),
    "generator": (("condition", "noise"), "picture"),
    "speech_detector": (("log_mel", "n_frames"), "speech_probability"),
    "text_encoder": (("letters",), "text_embedding"),
}
"""Network -> inputs and first output, in cards of version 0.1, which do not state them."""
SIZES = ("noise_size", "picture_size", "embedding_size")
"""What a card says of the networks' sizes; of a model with a condition prior, "prior_noise_size" too."""
WORDS, PIECES = "ctc", "pieces"
"""The second output of a speech encoder that writes down words, too, and what the card calls the pieces of
text that its tokens stand for."""
STATES, DECODER_PIECES = "states", "decoder_pieces"
"""The output of a speech encoder that a decoder writes down words from, and what the card calls the pieces of
text that the decoder's tokens stand for."""
MAX_CONTEXT = 64
"""The most tokens that a language model may read."""
DOMAIN, DOMAINS, OTHER_THRESHOLD = "domain", "domains", "other_threshold"
"""The output of a speech encoder that tells what domain a clip is about, and what the card calls the
domains and the threshold of `domains.Domains`."""
DOMAIN_WORDS = "domain_words"
"""What the card calls `domains.Domains.words`."""
DOMAIN_ERRORS = "domain_errors"
"""What the card calls the mistakes of that output, as `training/recipes/domain_head.py` measured them."""
FRONT_END = "front_end"
"""What the card calls the front end of the speech encoder (`audio/front_ends.py`)."""
EMBEDDING_SPACE = "embedding_space"
"""What the card calls the space of its encoder's embeddings (`training/core/networks.py`)."""
RECOGNIZER_CARD = "recognizer.json"
"""What a recognizer's folder holds beside its networks; see `asr/ctc.py`."""
VOCABULARY = "vocabulary"
"""What a cascade's card says of the words its text encoder knows: all of them, with blanks between."""
COUNTS = "counts"
"""The input of a text encoder of word vectors: how often each word of the vocabulary is there, in its
order."""
DEFAULT_MODEL = "flowers-and-birds"
ALIASES = dict.fromkeys(("flowers", "birds", "flowers-and-birds-whisper"), DEFAULT_MODEL)
"""Other names of shipped models, so that a program that asks for flowers still gets them."""


@dataclass(frozen=True)
class Model:
    """A model folder whose `model.json` was read and found whole; its networks are not read yet.

    Attributes:
        name: the model's name.
        folder: where it lies.
        card: everything `model.json` says: licence, sizes, measures, checksums, what it was trained on.
    """

    name: str
    folder: Path
    card: Card

    @property
    def route(self) -> str:
        """direct or cascade."""
        return str(self.card.get("route", "direct"))

    @property
    def front_end(self) -> FrontEnd:
        """What makes frames for its speech encoder; the paper's in folders that state none."""
        return stated_front_end(self.card.get(FRONT_END), str(self.folder / CARD))

    @property
    def networks(self) -> tuple[str, ...]:
        """An encoder, the generator and, where the model has them, a condition prior and a speech
        detector."""
        return (*ROUTES[self.route].networks, *optional_networks(self.card["files"]))

    @property
    def recognizer(self) -> Path | None:
        """The folder of the speech recognizer it names (or of a model whose speech encoder writes down words,
        too), None if it names none.

        Raises:
            CheckpointError: it is not there.
        """
        found = self._find_recognizer()
        if found is None and "recognizer" in self.card:
            raise CheckpointError(
                f"model '{self.name}' hears with the recognizer '{self.card['recognizer']}', which lies "
                f"neither in {self.folder} nor beside it, nor came with this installation; copy its folder "
                "there, or choose another (--recognizer)"
            )
        return found

    def _find_recognizer(self) -> Path | None:
        name = self.card.get("recognizer")
        if name is None:
            return None
        return self._find(name, RECOGNIZER_CARD) or self._find(name, CARD)

    @property
    def pieces(self) -> tuple[str, ...]:
        """The pieces of text that its speech encoder writes in; none where it only embeds."""
        return tuple(self.card.get(PIECES, ()))

    @property
    def decoder_pieces(self) -> tuple[str, ...]:
        """The pieces of text that the decoder beside its speech encoder writes in; none without a decoder."""
        return tuple(self.card.get(DECODER_PIECES, ())) if WORDS_DECODER in self.networks else ()

    @property
    def domains(self) -> Domains | None:
        """The domains that its speech encoder tells apart; None where it tells none."""
        if DOMAINS not in self.card:
            return None
        words = DomainWords.of_card(self.card[DOMAIN_WORDS]) if DOMAIN_WORDS in self.card else None
        return Domains(tuple(self.card[DOMAINS]), float(self.card[OTHER_THRESHOLD]), words)

    def signature(self, network: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The names of a network's inputs and outputs; what routes read is the first output, or, of a speech
        encoder, `WORDS` and `DOMAIN`, too."""
        entry = self.card["files"][network]
        if INPUTS in entry:
            return tuple(entry[INPUTS]), tuple(entry[OUTPUTS])
        inputs, output = OLD_SIGNATURES[network]
        return inputs, (output, *(self.further_outputs if network == "speech_encoder" else ()))

    @property
    def further_outputs(self) -> tuple[str, ...]:
        """What its speech encoder gives beside the embedding: `WORDS`, `DOMAIN`, both or none."""
        given = ((WORDS, self.pieces), (DOMAIN, self.domains))
        return tuple(output for output, there in given if there)

    def _find(self, name: str, file: str) -> Path | None:
        """The folder `name` with `file` in it: inside this one, beside it or among the shipped models."""
        places = (self.folder, self.folder.resolve().parent, MODELS_FOLDER)
        return next((place / name for place in places if os.path.isfile(place / name / file)), None)

    @property
    def shared(self) -> dict[str, Card]:
        """What the card says of the networks that lie in another model's folder, named by "of"."""
        files = self.card["files"]
        return {network: files[network] for network in self.networks if "of" in files[network]}

    def path(self, network: str) -> Path:
        """The file of `network`, one of `networks`.

        Raises:
            CheckpointError: it belongs to another model, which is not there.
        """
        entry = self.card["files"][network]
        file: str = entry["file"]
        if network not in self.shared:
            return self.folder / file
        lender = self._find(entry["of"], file)
        if lender is None:
            raise CheckpointError(
                f"model '{self.name}' uses the {network} of the model '{entry['of']}', which lies neither "
                f"beside {self.folder} nor came with this installation; copy its folder there"
            )
        return lender / file

    def read(self, network: str) -> bytes:
        """Read the file of `network` and compare its SHA-256 with the stated one.

        Raises:
            CheckpointError: the file is missing, unreadable, or not the one that was published.
        """
        path, stated = self.path(network), self.card["files"][network]["sha256"]
        content = read_content(path)
        found = hashlib.sha256(content).hexdigest()
        if found != stated:
            raise CheckpointError(
                f"{path} is damaged or was replaced: its SHA-256 is {found[:12]}..., {CARD} states "
                f"{stated[:12]}...; install the package or fetch the model again"
            )
        return content

    @property
    def sha256(self) -> dict[str, str]:
        """The stated checksum of each network, and that of the card of the recognizer it names."""
        stated = {network: self.card["files"][network]["sha256"] for network in self.networks}
        recognizer = self._find_recognizer()
        if recognizer is not None:
            card = recognizer / RECOGNIZER_CARD
            card = card if card.is_file() else recognizer / CARD
            stated["recognizer"] = hashlib.sha256(read_content(card, MAX_CARD_BYTES)).hexdigest()
        return stated

    @property
    def checksum(self) -> str:
        """One SHA-256 of all in `sha256`: it tells models apart that bear one name."""
        return hashlib.sha256(json.dumps(self.sha256, sort_keys=True).encode()).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of the networks on disk, without what lies in another folder."""
        own = [self.path(network) for network in self.networks if network not in self.shared]
        recognizer = self._find_recognizer()
        if recognizer is not None and recognizer.parent == self.folder:
            own += recognizer.glob("*.onnx")
        return sum(path.stat().st_size for path in own)


def optional_networks(files: object) -> tuple[str, ...]:
    """Of the networks a model may do without, those that its card's `files` names."""
    return tuple(network for network in OPTIONAL if isinstance(files, dict) and network in files)


def available_models() -> list[str]:
    """The names of the models that came with this installation, in alphabetical order."""
    return sorted(card.parent.name for card in MODELS_FOLDER.glob(f"*/{CARD}"))


def find(name_or_path: str | os.PathLike[str]) -> Model:
    """Find a model by the name of a shipped one, by its folder, by a file in its folder, or at a hub
    ("hf://user/name", which fetches it).

    Raises:
        CheckpointError: no such model (the message lists the names there are), or its `model.json` is
            missing, damaged or something else.
    """
    wanted = os.fspath(name_or_path)
    if wanted.startswith("hf://"):
        from speech2image.pipeline.hub import fetch

        return read_card(fetch(wanted))
    shipped = available_models()
    name = wanted if wanted in shipped else ALIASES.get(wanted, wanted)
    if name in shipped:
        return read_card(MODELS_FOLDER / name)
    path = Path(wanted)
    if os.path.isdir(path):  # Path.is_dir raises an error for names that are too long
        return read_card(path)
    if path.suffix == ".onnx" or path.name == CARD:
        if os.path.isfile(path):
            return read_card(path.parent)
        raise CheckpointError(f"there is no file {path}")
    if os.path.isfile(path):
        raise CheckpointError(
            f"{path} is not a model folder with {CARD}; "
            "speech2image export makes one from training checkpoints"
        )
    raise CheckpointError(_unknown(wanted))


def here_or_shipped(name_or_path: str | os.PathLike[str]) -> Path:
    """A folder, or, where there is none of this name, the shipped model or recognizer that is called so."""
    path, shipped = Path(name_or_path), MODELS_FOLDER / name_or_path
    return shipped if not os.path.exists(path) and os.path.isdir(shipped) else path


def find_route(name_or_path: str | os.PathLike[str], route: str) -> Model:
    """Find a model of a route: the one named, or the one that belongs to it and lies beside it.

    `<name>-cascade` belongs to `<name>`.

    Raises:
        CheckpointError: as `find`; or there is no such model of that route.
        SettingsError: there is no such route.
    """
    if route not in ROUTES:
        raise SettingsError(f"unknown route '{route}'; there are: {', '.join(ROUTES)}")
    model = find(name_or_path)
    found = model if model.route == route else companion(model, route)
    if found is None:
        raise CheckpointError(_no_route(model, route))
    return found


def companion(model: Model, route: str) -> Model | None:
    """The model of another route that belongs to `model` and lies beside it, None if there is none.

    Raises:
        CheckpointError: its `model.json` is damaged or something else.
    """
    own = model.folder.resolve()
    base = own.name.removesuffix(f"-{model.route}")
    for name in filter(None, (f"{base}-{route}", base)):
        folder = own.with_name(name)
        if folder != own and os.path.isfile(folder / CARD):
            other = read_card(folder)
            if other.route == route:
                return other
    return None


def _no_route(model: Model, route: str) -> str:
    name = model.folder.resolve().name
    what = f"model '{model.name}' is of the {model.route} route, and no '{name}-{route}' lies beside it"
    recipe = ROUTES[route].recipe.format(name=name)
    if not recipe:
        return f"{what}; name a model of the {route} route (--model)"
    return f"{what}. Name a model of the {route} (--model FOLDER), or make one: {recipe}"


def _unknown(wanted: str) -> str:
    names = available_models()
    close = difflib.get_close_matches(wanted.lower(), names, n=1, cutoff=0.5)
    guess = f"did you mean '{close[0]}'? " if close else ""
    shipped = ", ".join(names) or "none"
    return f"unknown model '{wanted}', and no folder of that name; {guess}shipped models: {shipped}"


def read_card(folder: Path) -> Model:
    """Read and check `model.json` of a model folder.

    Raises:
        CheckpointError: it is missing, not JSON, of another format, or states what no model has: files
            outside its folder or without checksum, sizes out of range, a name of several lines.
    """
    path = folder / CARD
    if not os.path.isfile(path):
        raise CheckpointError(
            f"{folder} is not a model folder: it has no {CARD} (speech2image export writes one)"
        )
    card = read_json_card(path)
    check_model_card(card, path)
    return Model(name_of(card, path), folder, card)


def check_model_card(card: Card, path: Path) -> None:
    """Refuse a card that no model of this version has.

    Args:
        card: what `model.json` holds.
        path: where it lies or will lie, for messages.

    Raises:
        CheckpointError: as `read_card`.
    """
    found, route = card.get("format"), card.get("route", "direct")
    formats = {name: kind.format for name, kind in ROUTES.items()}
    if found not in formats.values():
        known = " and ".join(map(repr, formats.values()))
        raise CheckpointError(f"{path} is of the format {found!r}, this version reads {known}")
    if not isinstance(route, str) or formats.get(route) != found:
        raise CheckpointError(f"{path} is damaged: {found!r} has no route {route!r}")
    networks = (*ROUTES[route].networks, *optional_networks(card.get("files")))
    check_card(card, path, networks, (*SIZES, "prior_noise_size") if PRIOR in networks else SIZES)
    stated_front_end(card.get(FRONT_END), str(path))
    for key in (PIECES, DECODER_PIECES):
        pieces = card.get(key, [])
        if not isinstance(pieces, list) or not all(isinstance(piece, str) and piece for piece in pieces):
            raise CheckpointError(f"{path} is damaged: '{key}' is not a list of pieces of text")
    if len({WORDS_MEMORY in networks, WORDS_DECODER in networks, bool(card.get(DECODER_PIECES))}) > 1:
        raise CheckpointError(
            f"{path} is damaged: '{WORDS_MEMORY}', '{WORDS_DECODER}' and '{DECODER_PIECES}' belong together, "
            "some of them are missing"
        )
    if LANGUAGE_MODEL in networks:
        _check_language_model(card, path)
    if DOMAINS in card:
        check_domains(card[DOMAINS], card.get(OTHER_THRESHOLD), str(path))
    if DOMAIN_WORDS in card:
        check_domain_words(card[DOMAIN_WORDS], len(card.get(DOMAINS, ())), str(path))
    if not isinstance(card.get(VOCABULARY, ""), str):
        raise CheckpointError(
            f"{path} is damaged: '{VOCABULARY}' is {card[VOCABULARY]!r}, not words with blanks between"
        )
    name_of(card, path)


def _check_language_model(card: Card, path: Path) -> None:
    """Refuse a language model without a decoder that it helps, or without its two numbers."""
    if not card.get(DECODER_PIECES):
        raise CheckpointError(
            f"{path} is damaged: '{LANGUAGE_MODEL}' and '{DECODER_PIECES}' belong together, one is missing"
        )
    stated = card.get(LANGUAGE_MODEL)
    stated = stated if isinstance(stated, dict) else {}
    context, weight = stated.get("context"), stated.get("weight")
    if not isinstance(context, int) or isinstance(context, bool) or not 1 <= context <= MAX_CONTEXT:
        raise CheckpointError(
            f"{path} is damaged: 'context' of '{LANGUAGE_MODEL}' is {context!r:.60}, not a whole number from "
            f"1 to {MAX_CONTEXT}"
        )
    if not isinstance(weight, int | float) or isinstance(weight, bool) or not 0 <= weight <= 1:
        raise CheckpointError(
            f"{path} is damaged: 'weight' of '{LANGUAGE_MODEL}' is {weight!r:.60}, not a number from 0 to 1"
        )
