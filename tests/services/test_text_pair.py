"""A real small open_clip pair under a shared head, exported and served: both towers answer as torch does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.factories import photo
from tests.services.conftest import ITEMS, promote_bundle, running
from training.settings import TopSettings
from training.tuning._shared import Projection, SharedHead
from vitrine.client import Listing, VitrineClient
from vitrine.encoder import fuse
from vitrine.export import Classifier, ImageGraph, export_version
from vitrine.families import open_clip
from vitrine.home import find_home
from vitrine.images import decode
from vitrine.manifest import Licences
from vitrine.ports import Backbone, BackboneSpec, Vectors
from vitrine.tokenize import load_tokenizer

TITLES = ["a red mug", "ein blauer Krug", "cup, large"]


@dataclass
class Pair:
    """The served pair beside torch's own."""

    client: VitrineClient
    backbone: Backbone
    head: SharedHead

    def texts(self, texts: list[str]) -> Vectors:
        assert self.backbone.text is not None
        tokens = torch.from_numpy(load_tokenizer(self.backbone.text.tokenizer).encode(texts))
        with torch.no_grad():
            vectors: Vectors = functional.normalize(
                self.head.projection(self.backbone.text.module(tokens)), dim=1
            ).numpy()
        return vectors

    def photos(self, photos: list[bytes]) -> Vectors:
        pixels = torch.from_numpy(np.stack([decode(one, self.backbone.image) for one in photos]))
        with torch.no_grad():
            vectors: Vectors = ImageGraph(self.backbone, self.head).eval()(pixels)[0].numpy()
        return vectors


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    backbone = open_clip.load(BackboneSpec("open-clip", "vitrine-mini", "random"))
    head = moved_head(backbone)
    bundle = export_version(
        folder / "bundle",
        backbone,
        photos=[photo(n) for n in range(4)],
        texts=TITLES,
        licences=Licences("Apache-2.0", "CC0-1.0"),
        lineage={},
        head=head,
        text_head=head.projection,
        classifier=Classifier(("cup", "jug", "mug")),
    )
    home = find_home({"VITRINE_HOME": str(folder / "home")})
    promote_bundle(home, bundle)
    with running(home) as server, VitrineClient(server.address) as client:
        yield Pair(client, backbone, head)


def moved_head(backbone: Backbone) -> SharedHead:
    """A shared head that is far from the untrained one, which would give the backbone's own space."""
    torch.manual_seed(0)
    head = SharedHead(Projection(backbone.dim, TopSettings(width=16)), torch.randn(3, backbone.dim)).eval()
    last = head.projection.change[-1]
    assert isinstance(last, torch.nn.Linear)
    torch.nn.init.normal_(last.weight)
    return head


def test_the_served_version_reads_titles_and_has_labels(pair: Pair) -> None:
    version = pair.client.info().version

    assert (version.modalities, version.dim, version.labels) == (("image", "title"), 128, 3)


def test_titles_are_embedded_as_torch_does_it_through_the_shared_head(pair: Pair) -> None:
    texts = [*TITLES, "Crème brûlée 🍮", "m" * 900]

    vectors = pair.client.embed([Listing(title=text) for text in texts]).vectors

    np.testing.assert_allclose(vectors, pair.texts(texts), atol=1e-4)


def test_a_mixed_request_is_what_torch_makes_of_it(pair: Pair) -> None:
    vectors = pair.client.embed([Listing(title=TITLES[0]), photo(1), Listing((photo(2),), TITLES[1])]).vectors

    texts, photos = pair.texts(TITLES[:2]), pair.photos([photo(1), photo(2)])
    np.testing.assert_allclose(vectors, np.stack([texts[0], photos[0], fuse(photos[1], texts[1])]), atol=1e-4)


def test_a_search_by_words_compares_them_with_the_catalogue_s_photos(pair: Pair) -> None:
    found = pair.client.search(text=TITLES[0], k=ITEMS)

    scores = pair.photos([photo(n) for n in range(ITEMS)]) @ pair.texts(TITLES[:1])[0]
    expected = {f"item-{n}": score for n, score in enumerate(scores)}
    assert {hit.item_id: hit.score for hit in found.hits} == pytest.approx(expected, abs=1e-4)
