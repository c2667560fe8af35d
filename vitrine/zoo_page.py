"""Writes docs/zoo.md from the table: `python -m vitrine.zoo_page > docs/zoo.md`."""

from __future__ import annotations

from collections.abc import Iterator

from vitrine.zoo import PERMISSIVE, ZooModel
from vitrine.zoo_table import ZOO

_HEAD = """# Zoo

Networks with given weights that a cell can start from. Written from `vitrine/zoo_table.py` by `make docs`.
`vitrine zoo ls` prints the same list, `vitrine zoo show NAME` one entry.

```yaml
backbones:
  fetched:
    siglip: {zoo: siglip-base}                      # all the rest is the table's
    dino: {zoo: dinov2-base, image_size: 448}       # what is given beside it counts
licences:                                           # beside the permissive ones: licence -> why
  CC-BY-NC-4.0: a study, nothing is served
```

**Figures** are measured by building each network without weights (`vitrine zoo show NAME --measure`), and a test
compares: `dim` of an image's embedding, parameters of the image tower and of the text tower, and billions of
multiply-adds (GMACs) of matrix products, convolutions and attention for one photo of that many pixels.

**Licences** are those of the weights. Allowed unasked: {permissive}. Any other is refused when the weights are
fetched, until `licences` in params.yaml names it with a reason. So are a library's hub weights whose licence is
not stated. A file of your own is not asked for its licence.

**Preprocessing** comes with the tag of timm or open_clip; where the weights have no tag, the table has it. A
backbone's folder keeps it beside the weights.
"""

_CONVERT = """
## Checkpoints that must be converted

timm has neither MAWS nor DINO's ResNet-50. Download the file, then rename its tensors once:

```
vitrine zoo convert NAME FILE OUT.safetensors
```

The file is read as tensors alone (torch's `weights_only`): one that would run code is refused. Tensors of
classifiers, decoders and text encoders are left out; what is left must fit the network exactly, or nothing is
written. The digests of both files are printed. Then name the result in params.yaml:

```yaml
backbones:
  fetched:
    dino-resnet50: {zoo: dino-resnet50, weights: "file:weights/dino-resnet50.safetensors"}
```

| network | published at |
|---|---|
"""

_HUB_FILES = """
## Files of the Hugging Face hub

open_clip has no tag for Marqo-Ecommerce. Its `open_clip_model.safetensors` and `tokenizer.json` are fetched from
the hub and read as the SigLIP networks that they were tuned from; the sums of parameters, 203 and 652 million,
are those of its model cards.
"""


def page() -> str:
    """The whole page."""
    converted = (f"| `{model.name}` | {model.address} |" for model in ZOO if model.source == "convert")
    return "\n".join(
        [
            _HEAD.replace("{permissive}", ", ".join(PERMISSIVE)),
            "## Families of the study (arXiv 2504.07567)\n",
            *_table(model for model in ZOO if model.in_study),
            "\n## After it\n",
            *_table(model for model in ZOO if not model.in_study),
            _CONVERT + "\n".join(converted),
            _HUB_FILES,
        ]
    )


def _table(models: Iterator[ZooModel]) -> Iterator[str]:
    yield "| name | weights of | trained | library: architecture | weights | pixels | dim | image, text (M) | GMACs | licence |"
    yield "|---|---|---|---|---|--:|--:|--:|--:|---|"
    for model in models:
        millions = f"{model.parameters / 1e6:.1f}"
        millions += f", {model.text_parameters / 1e6:.1f}" if model.text_parameters else ""
        yield (
            f"| `{model.name}` | [{model.group}]({model.address}) | {model.training} | {model.family}: "
            f"`{model.architecture}` | `{model.weights}` | {model.image_size} | {model.dim} | {millions} | "
            f"{model.gmacs:.1f} | {model.licence} |"
        )


if __name__ == "__main__":
    print(page(), end="")
