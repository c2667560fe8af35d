"""Writes profiles/study.yaml, the grid of arXiv 2504.07567: `python -m training.study > profiles/study.yaml`.

Every network of the zoo that the study has, as it is, top-tuned and fully tuned, on six datasets; each fully
tuned version is also searched with on the five other datasets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vitrine.zoo import PERMISSIVE
from vitrine.zoo_table import ZOO

DATASETS: Mapping[str, tuple[str, str]] = {
    "cars196": ("cars196", "cars196"),
    "sop": ("stanford-online-products", "Stanford_Online_Products"),
    "in-shop": ("in-shop", "in-shop"),
    "products-10k": ("products-10k", "products-10k"),
    "rp2k": ("rp2k", "rp2k"),
    "food2k": ("food2k", "food2k"),
}
"""Name -> format and folder below `sources/`."""

STRATEGIES = ("pretrained", "top", "full")
NETWORKS = tuple(model for model in ZOO if model.in_study)
CELLS = tuple((s, model.name, dataset) for dataset in DATASETS for model in NETWORKS for s in STRATEGIES)
CROSSES = tuple((cell, dataset) for cell in CELLS if cell[0] == "full" for dataset in DATASETS if dataset != cell[2])

_HEAD = """\
# The study of arXiv 2504.07567: {networks} networks, {datasets} datasets, {cells} cells, {crosses} crosses. It needs a GPU and the
# datasets in sources/ (docs/benchmarks.md). Written by `make docs` from training/study.py.
# The meaning of every key: profiles/demo.yaml.
#
# Once, before `dvc repro --keep-going`:
#   - vitrine zoo convert, for the networks whose weights are file:weights/...
#   - licences: read those of {bound}; where your use
#     is allowed, put them below with the reason. Until then their `fetch` stages are refused, the others run.
# One network on one dataset: dvc repro evaluate@top--siglip-base--cars196

seed: 0
threads: 8

licences: {{}}
"""

_TAIL = """\

pretrained: {}

top:
  width: 512
  layers: 2
  lr: 0.001
  epochs: 1000
  patience: 30

full:
  objective: supervised
  epochs: 30
  batch_size: 32
  accumulate: 4                  # 128 photos a step
  lr: 0.00005                    # of given weights, which a larger one would spoil
  patience: 5

export:
  photos: 64

gates: {}

prices:
  device_hour: 2.50
  currency: USD
"""


def profile() -> str:
    """The whole file."""
    bound = {f"{model.group} ({model.licence})": None for model in NETWORKS if model.licence not in PERMISSIVE}
    head = _HEAD.format(
        networks=len(NETWORKS), datasets=len(DATASETS), cells=len(CELLS), crosses=len(CROSSES), bound=", ".join(bound)
    )
    return head + "\n".join(_entries()) + "\n" + _TAIL


def _entries() -> Iterator[str]:
    yield "\ndatasets:"
    for name, (fmt, folder) in DATASETS.items():
        yield f"  {name}: {{format: {fmt}, path: sources/{folder}, options: {{}}}}"
    yield "\nbackbones:\n  trained: {}\n  fetched:"
    for model in NETWORKS:
        weights = f', weights: "file:weights/{model.name}.safetensors"' if model.source == "convert" else ""
        yield f"    {model.name}: {{zoo: {model.name}{weights}}}"
    yield "\nfeatures:"
    for dataset in DATASETS:
        for model in NETWORKS:
            yield f"  {model.name}--{dataset}: {{backbone: {model.name}, dataset: {dataset}}}"
    yield "\ncells:"
    for strategy, backbone, dataset in CELLS:
        key = f"{strategy}--{backbone}--{dataset}"
        yield f"  {key}: {{strategy: {strategy}, backbone: {backbone}, dataset: {dataset}}}"
    yield "\ncrosses:"
    for cell, dataset in CROSSES:
        key = "--".join(cell)
        yield f"  {key}--on--{dataset}: {{cell: {key}, dataset: {dataset}}}"


if __name__ == "__main__":
    print(profile(), end="")
