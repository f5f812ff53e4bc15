"""Embeddings route: pictures of embeddings that were made elsewhere, such as published text embeddings.

    embedding [size] --generator.onnx, noise--> pictures

A model of it has a generator and nothing that listens or reads.
"""

from collections.abc import Sequence

from speech2image.errors import SettingsError
from speech2image.pipeline.base import EncodedSpeech, Parts, Route, Speech


def open_route(parts: Parts) -> "EmbeddingsRoute":
    """The route of a model that was opened (`routes.RouteKind.module`)."""
    return EmbeddingsRoute(parts.model, parts.generator, parts.vad, parts.prior)


class EmbeddingsRoute(Route):
    """Draws embeddings alone (`draw_embedding`, `generate`); see `Route`."""

    def _encode(
        self, recordings: Sequence[Speech], timings: dict[str, float], quick: bool = False
    ) -> list[EncodedSpeech]:
        raise self._draws_embeddings()

    def _reads_no_text(self) -> SettingsError:
        return self._draws_embeddings()

    def _draws_embeddings(self) -> SettingsError:
        return SettingsError(
            f"model '{self.name}' has neither speech encoder nor text encoder: it draws embeddings of "
            f"{self.model.card['embedding_size']} numbers (translate --embedding FILE)"
        )
