"""The tokenizer that travels inside a version: texts in, token ids out, without torch.

It is a file of the `tokenizers` library. Lower-casing, quotes, white space, begin and end tokens, padding and
cutting are in the file, so that any program that reads it gives the same ids. `clean` does before it what such a
file cannot say: HTML entities, and letters of another width. Text in a wrong encoding ("cafÃ©") is not repaired.
"""

from __future__ import annotations

import html
import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tokenizers
from numpy.typing import NDArray

from vitrine.errors import BadInput

KIND = "tokenizers"
"""What a manifest calls this kind of tokenizer: the library that reads it."""

_FORMS = re.compile("[\u0132\u0133\u0149\u01c4-\u01cc\u01f1-\u01f3\u3000\ufb00-\ufb06\uff01-\uffef]")


@dataclass(frozen=True)
class Tokenizer:
    """A loaded tokenizer; safe to use from several threads.

    Attributes:
        context_length: L, tokens of every text, padding included.
        vocabulary: how many ids there are.
        padding: the id that fills a short text up.
    """

    context_length: int
    vocabulary: int
    padding: int
    _inner: tokenizers.Tokenizer

    def encode(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Token ids int64 (B, L); what is over L tokens is cut off, the end token stays."""
        found = self._inner.encode_batch([clean(text) for text in texts])
        ids = np.array([one.ids for one in found], dtype=np.int64)
        return ids.reshape(len(texts), self.context_length)

    def lengths(self, tokens: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many of the ids (B, L) of each text come before the padding, int64 (B,)."""
        real = tokens != self.padding
        found: NDArray[np.int64] = np.where(real.any(axis=1), tokens.shape[1] - real[:, ::-1].argmax(axis=1), 0)
        return found


def load_tokenizer(data: bytes) -> Tokenizer:
    """Read a tokenizer as the `tokenizers` library writes it.

    Raises:
        BadInput: the bytes are no such file, or it does not pad and cut every text to one length.
    """
    try:
        raw = json.loads(data)
        inner = tokenizers.Tokenizer.from_str(json.dumps(raw))
    except Exception as error:  # the library raises Exception itself
        raise BadInput(f"this is no tokenizer file of the tokenizers library: {error}", field="tokenizer") from error
    length, padding = _fixed_length(inner), dict(inner.padding or {})
    return Tokenizer(length, inner.get_vocab_size(), int(padding["pad_id"]), inner)


def clean(text: str) -> str:
    """Resolve HTML entities (shops' exports hold them twice over) and undo ligatures and full-width letters.

    >>> clean("Caf&amp;eacute; in ﬁligree")
    'Café in filigree'
    """
    valid = text.encode("utf-8", "replace").decode()  # half a surrogate pair is no text
    return _FORMS.sub(lambda found: unicodedata.normalize("NFKC", found[0]), html.unescape(html.unescape(valid)))


def _fixed_length(inner: tokenizers.Tokenizer) -> int:
    padded, cut = inner.padding, inner.truncation
    length = (padded or {}).get("length")
    if not length or not cut or cut["max_length"] != length:
        raise BadInput(
            f"the tokenizer must pad and cut every text to one length; it pads to {length or 'none'} and cuts at "
            f"{cut['max_length'] if cut else 'none'}: call enable_padding(length=L) and enable_truncation(L), save it again",
            field="tokenizer",
        )
    return int(length)
