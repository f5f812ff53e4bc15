"""Table of routes: the ways from speech to pictures, what each needs and offers, and where its code is.

A new route is an entry here and a module with a function `open_route`; models, loading, command line and
server read the table.
"""

from dataclasses import dataclass

GENERATOR = "generator"
PRIOR, DETECTOR = "condition_prior", "speech_detector"
WORDS_MEMORY, WORDS_DECODER = "words_memory", "words_decoder"
LANGUAGE_MODEL = "language_model"
OPTIONAL = (PRIOR, DETECTOR, WORDS_MEMORY, WORDS_DECODER, LANGUAGE_MODEL)
"""The networks a model of any route may do without; memory and decoder together, a language model only with
them (`asr/decoder.py`)."""


@dataclass(frozen=True)
class RouteKind:
    """One way from speech to pictures.

    Attributes:
        format: of the `model.json` of its models.
        encoder: the network that embeds what is said or written; "" for a route without one.
        module: has `open_route(parts: base.Parts) -> base.Route`.
        text: whether it goes through text: a recognizer writes down what is said, `draw_text` draws a
            sentence.
        recipe: how to make a model of it, for errors; "" for the route that every model has.
    """

    format: str
    encoder: str
    module: str
    text: bool = False
    recipe: str = ""

    @property
    def networks(self) -> tuple[str, ...]:
        """The networks no model of this route goes without."""
        return (self.encoder, GENERATOR) if self.encoder else (GENERATOR,)


ROUTES = {
    "direct": RouteKind(
        format="speech2image direct route 1",
        encoder="speech_encoder",
        module="speech2image.pipeline.direct",
    ),
    "cascade": RouteKind(
        format="speech2image cascade route 1",
        encoder="text_encoder",
        module="speech2image.pipeline.cascade",
        text=True,
        recipe="train speech-recognizer, text-encoder and a generator with --conditions text, then "
        "speech2image export cascade ... --out {name}-cascade (docs/recipes.md, section 5)",
    ),
    "embeddings": RouteKind(
        format="speech2image embeddings route 1",
        encoder="",
        module="speech2image.pipeline.embeddings",
    ),
}
"""Name of a route, as in `model.json` -> what it is; the default first."""
