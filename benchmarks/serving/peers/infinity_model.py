"""A CLIP ViT-B/32 with random weights as infinity reads it. Runs in the peer's environment.

usage: infinity_model.py FOLDER
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizerFast
from transformers.models.clip.tokenization_clip import bytes_to_unicode

TARGET, MERGES = Path(sys.argv[1]), Path(sys.argv[2])


def tokenizer(folder: Path) -> CLIPTokenizerFast:
    """From the published merges, as CLIP builds its vocabulary."""
    merges = gzip.decompress(MERGES.read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    letters = list(bytes_to_unicode().values())
    words = letters + [f"{letter}</w>" for letter in letters] + ["".join(merge.split()) for merge in merges]
    vocabulary = {word: number for number, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges))
    return CLIPTokenizerFast(str(folder / "vocab.json"), str(folder / "merges.txt"))


CLIPModel(CLIPConfig()).save_pretrained(TARGET)
CLIPProcessor(CLIPImageProcessor(), tokenizer(TARGET)).save_pretrained(TARGET)
