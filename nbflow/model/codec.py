"""The payload law: what a step receives equals what was sent, or the sender fails.

The codec is the way in; `encoder` and `decoder` walk, `scalars`, `records`, `tensors`, `tables`, `arrow` and `pickles`
know the types. Importing it loads none of pandas, numpy, pyarrow, pydantic or cloudpickle: a value's type tells that its
package is loaded already. On the wire:

    123, "text", [1], {"a": 1}                       what JSON holds as it is
    {"$t": "tuple", "v": [1, 2]}                     a value of another type
    {"$ref": digest, "kind": "arrow", "type": …}     an artifact: arrow | tensor | json | pickle | bytes
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nbflow.errors import PayloadError
from nbflow.model import veil
from nbflow.model.artifacts import ArtifactStore, MemoryArtifacts, Refused, Unopened, references
from nbflow.model.decoder import Decoder, from_json
from nbflow.model.encoder import Encoder, is_plain, secret_in, to_json
from nbflow.model.preview import preview, preview_text
from nbflow.model.signing import Signer
from nbflow.model.types import TypeTable

__all__ = [
    "LARGEST_JSON",
    "ArtifactStore",
    "Codec",
    "MemoryArtifacts",
    "TypeTable",
    "Unopened",
    "preview",
    "preview_text",
    "references",
    "refuse_secrets",
]

LARGEST_JSON = 64 * 1024
"""Longer texts become artifacts of kind "json"."""


def refuse_secrets(text: str, name: str) -> None:
    """What a step receives must equal what was sent, so that a secret's value is not masked in a payload, but refused."""
    found = veil.found_in_text(text)
    if found is not None:
        raise Refused(*secret_in(found)).as_payload_error(name)


class Codec:
    """Values to JSON text and back, for one flow's types, one secret and one artifact store.

    `open_pickles` is for workers and the person's own kernel; a reader without it is a view, and gets `Unopened` for a
    pickle and for an instance of a class that it does not know.
    """

    def __init__(
        self,
        *,
        types: TypeTable | None = None,
        signer: Signer | None = None,
        artifacts: ArtifactStore | None = None,
        open_pickles: bool = False,
    ) -> None:
        self.types = TypeTable() if types is None else types
        self.signer = signer
        self.artifacts = artifacts
        self.open_pickles = open_pickles
        self._decoder = Decoder(self.types, signer, artifacts, open_pickles)

    def encode(self, value: Any, *, name: str = "result") -> str:
        """The value as JSON text; its artifacts are put as a side effect.

        PayloadError names the part that cannot travel, as a path from `name`, and the next move.
        """
        text = self._text(value, name)
        if veil.known:
            refuse_secrets(text, name)
        return self._shortened(text, value, name) if len(text) > LARGEST_JSON // 4 else text

    def encode_items(self, values: Sequence[Any], *, name: str = "result") -> tuple[str, list[str]]:
        """`(text of the whole, text of each element)`, every element encoded once. The whole is a list, or a tuple."""
        texts = [self.encode(value, name=f"{name}[{i}]") for i, value in enumerate(values)]
        whole = f"[{','.join(texts)}]"
        if type(values) is tuple:
            whole = f'{{"$t":"tuple","v":{whole}}}'
        return self._shortened(whole, values, name), texts

    def decode(self, text: str | bytes) -> Any:
        """The value of a text that `encode` wrote. PayloadError if it is damaged, TrustError if it must not be opened,
        ArtifactMissing if a part of it is gone."""
        try:
            if isinstance(text, bytes):
                text = text.decode()
            tree = from_json(text)
        except (ValueError, RecursionError) as error:
            raise PayloadError(f"A payload is no JSON: {error}.", hint="Run the step again.") from error
        return self._decoder.value(tree) if '"$' in text else tree

    def decode_value(self, tree: Any) -> Any:
        """The same from a JSON tree that was parsed already. The tree is left as it is."""
        return self._decoder.value(tree)

    def _text(self, value: Any, name: str) -> str:
        if is_plain(value):
            try:
                text = to_json(value)
                if '"$' not in text and (text.isascii() or text.encode()):
                    return text
            except ValueError:
                pass  # NaN, an infinity or a lone surrogate
        try:
            return to_json(Encoder(self.types, self.signer, self.artifacts).tree(value))
        except Refused as refused:
            raise refused.as_payload_error(name) from refused.__cause__
        except RecursionError as error:
            raise PayloadError(f"`{name}` is nested too deep.", hint="Return a flatter value.") from error

    def _shortened(self, text: str, value: Any, name: str) -> str:
        """The text, or the reference to it when it is long and there is a store."""
        if (len(text) <= LARGEST_JSON and text.isascii()) or self.artifacts is None:
            return text
        blob = text.encode()
        if len(blob) <= LARGEST_JSON:
            return text
        said: dict[str, Any] = {"type": type(value).__name__}
        if isinstance(value, Sequence | dict | set | frozenset) and not isinstance(value, str):
            said["rows"] = len(value)  # pyright: ignore[reportUnknownArgumentType]
        return to_json(Encoder(self.types, self.signer, self.artifacts).refer("json", blob, said))
