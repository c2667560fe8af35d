"""open_clip's tokenizers as one file of the `tokenizers` library; see `vitrine.tokenize`.

open_clip cleans a text with ftfy first. What ftfy does is in the file (composed letters, straight quotes, no control
characters) or in `vitrine.tokenize.clean`, except for text decoded with a wrong encoding, which stays as it is.
Words such as `<end_of_text>` inside a text are plain words here: a title cannot end itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from open_clip.tokenizer import SimpleTokenizer
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from vitrine.errors import BadInput
from vitrine.families._weights import hub_errors
from vitrine.files import read_json

TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"

_CONTROL = r"[\x00-\x08\x0B\x0E-\x1F\x7F\x{206A}-\x{206F}\x{FEFF}\x{FFF9}-\x{FFFC}]"
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_PUNCTUATION = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]\^`{|}~]"""


def tokenizer_of(text: Mapping[str, Any], *, beside: Path | None, online: bool) -> bytes | None:
    """The tokenizer of an architecture, from its `text_cfg`.

    Args:
        text: `text_cfg` of open_clip's model configuration.
        beside: a folder that may hold the model's own `tokenizer.json`.
        online: whether the hub may be asked.

    Returns:
        None where no file can hold it (CLIPA's, CLIPS's), or where it is on the hub alone and may not be fetched.

    Raises:
        Unavailable: the hub cannot be reached.
        BadInput: the tokenizer file there is not understood.
    """
    length, options = int(text.get("context_length", 77)), dict(text.get("tokenizer_kwargs") or {})
    name = text.get("hf_tokenizer_name")
    if not name:
        return _byte_pairs(options.get("clean", "lower"), length)
    if text.get("tokenizer_mode") or options.get("strip_sep_token"):
        return None
    find = _finder(name, beside, online)
    return from_hub_files(find, options.get("clean", "whitespace"), length) if find else None


@lru_cache(maxsize=4)
def _byte_pairs(cleaning: str, length: int) -> bytes:
    """CLIP's own byte-pair encoding, from the vocabulary inside the open_clip package."""
    source = SimpleTokenizer()
    start, end = "<start_of_text>", "<end_of_text>"
    tokenizer = Tokenizer(
        models.BPE(vocab=dict(source.encoder), merges=list(source.bpe_ranks), end_of_word_suffix="</w>")
    )
    tokenizer.normalizer = _cleaning(cleaning)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    ends = [(start, source.sot_token_id), (end, source.eot_token_id)]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{start} $A {end}", special_tokens=ends)
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length, pad_id=0, pad_token=source.decoder[0])
    return tokenizer.to_str().encode()


def from_hub_files(find: Callable[[str], Path], cleaning: str, length: int) -> bytes:
    """A model's own `tokenizer.json`, with open_clip's cleaning, padding and cutting put in.

    A file that pads and cuts to `length` already is one that Vitrine wrote, and is kept as it is.

    Raises:
        BadInput: it is no tokenizer file, or the padding token is not told.
    """
    data = find(TOKENIZER).read_bytes()
    try:
        tokenizer = Tokenizer.from_str(data.decode())
    except Exception as error:  # the library raises Exception itself
        raise BadInput(f"{TOKENIZER} of the model is no tokenizer file: {error}", field="weights") from error
    if tokenizer.padding and tokenizer.padding["length"] == length:
        return data
    own = [tokenizer.normalizer] if tokenizer.normalizer else []
    tokenizer.normalizer = normalizers.Sequence([_cleaning(cleaning), *own])
    pad, pad_id = _padding(tokenizer, find(TOKENIZER_CONFIG))
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length, pad_id=pad_id, pad_token=pad)
    return tokenizer.to_str().encode()


def _cleaning(kind: str) -> Any:
    """open_clip's three ways of cleaning: `lower`, `whitespace`, `canonicalize` (no punctuation, lower case)."""
    if kind not in ("lower", "whitespace", "canonicalize"):
        raise BadInput(f"the architecture cleans texts by {kind!r}, which is not known here", field="architecture")
    steps: list[Any] = [
        normalizers.Replace(Regex(_CONTROL), ""),
        normalizers.NFC(),
        normalizers.Replace(Regex(r"[\x{02BC}\x{2018}-\x{201B}]"), "'"),
        normalizers.Replace(Regex(r"[\x{201C}-\x{201F}]"), '"'),
    ]
    if kind == "canonicalize":
        steps += [normalizers.Replace("_", " "), normalizers.Replace(Regex(_PUNCTUATION), "")]
    if kind != "whitespace":  # Python writes a final sigma where Rust does not
        steps += [normalizers.Replace(Regex(r"(?<=\p{L})Σ(?!\p{L})"), "ς"), normalizers.Lowercase()]
    return normalizers.Sequence([*steps, normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()])


def _padding(tokenizer: Tokenizer, config: Path) -> tuple[str, int]:
    if not config.is_file():
        raise BadInput(
            f"{TOKENIZER} does not say which token pads a short text; put the model's {TOKENIZER_CONFIG} beside it",
            field="weights",
        )
    told = read_json(config, "tokenizer settings").get("pad_token")
    pad = told["content"] if isinstance(told, dict) else told
    number = tokenizer.token_to_id(pad) if isinstance(pad, str) else None
    if number is None:
        raise BadInput(f"{TOKENIZER_CONFIG} names the padding token {pad!r}, which the tokenizer does not hold")
    return pad, number


def _finder(name: str, beside: Path | None, online: bool) -> Callable[[str], Path] | None:
    if beside is not None and (beside / TOKENIZER).is_file():
        return lambda file: beside / file

    def fetch(file: str) -> Path:
        with hub_errors(f"the tokenizer {name}"):
            return Path(hf_hub_download(name, file))

    return fetch if online else None
