"""The server over a real socket, with a real tiny ONNX version and real JPEGs."""

from __future__ import annotations

from collections.abc import Callable

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from services.server import GrpcServer
from tests import reflected
from tests.factories import photo
from tests.services.conftest import ITEMS, MODEL, Running, running
from vitrine.client import Listing, VitrineClient
from vitrine.encoder import Encoder, load_encoder, pool_images
from vitrine.errors import BadInput, NotFound, Unavailable, Unsupported, VitrineError
from vitrine.home import Home
from vitrine.ports import Condition
from vitrine.registry import open_registry
from vitrine.v1 import common_pb2, embedding_pb2, embedding_pb2_grpc


@pytest.fixture(scope="module")
def encoder(shared_home: Home) -> Encoder:
    return load_encoder(open_registry(shared_home).open(MODEL), threads=1)


def test_embed_gives_what_the_encoder_gives(client: VitrineClient, encoder: Encoder) -> None:
    photos = [photo(n) for n in range(20)]

    result = client.embed(photos)

    np.testing.assert_allclose(result.vectors, encoder.embed(photos).vectors, atol=1e-6)
    assert (str(result.version), result.version.digest) == (f"{MODEL}@1", encoder.manifest.digest)


def test_float16_halves_the_bytes_and_keeps_the_direction(client: VitrineClient, encoder: Encoder) -> None:
    vectors = client.embed([photo(1)], dtype="float16").vectors

    np.testing.assert_allclose(vectors, encoder.embed([photo(1)]).vectors, atol=1e-3)


def test_two_images_of_an_item_are_pooled(client: VitrineClient, encoder: Encoder) -> None:
    vectors = client.embed([Listing((photo(1), photo(2))), photo(3)]).vectors

    expected = pool_images(encoder.embed([photo(1), photo(2), photo(3)]).vectors, [2, 1])
    np.testing.assert_allclose(vectors, expected, atol=1e-6)


def test_a_field_the_version_cannot_use_is_refused_by_name(client: VitrineClient) -> None:
    with pytest.raises(BadInput, match=r"items\[1\]\.title: tiny-search@1 cannot use title, it uses: image") as refused:
        client.embed([photo(1), Listing((photo(2),), title="a mug")])

    assert refused.value.field == "items[1].title"


def test_an_item_without_images_is_refused(client: VitrineClient) -> None:
    with pytest.raises(BadInput, match=r"items\[0\] has no images"):
        client.embed([Listing(())])


def test_an_address_instead_of_bytes_is_refused(server: Running) -> None:
    image = common_pb2.Image(url="http://example.com/mug.jpg")
    request = embedding_pb2.EmbedRequest(items=[common_pb2.Item(images=[image])])

    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as refused:
        embedding_pb2_grpc.EmbeddingStub(channel).Embed(request)

    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "fetches no addresses" in refused.value.details()


def test_a_broken_image_is_named_and_fails_alone(client: VitrineClient) -> None:
    with pytest.raises(BadInput, match=r"items\[1\]\.images\[0\]\.data: the image .* cannot be read") as refused:
        client.embed([photo(1), photo(2)[:300], photo(3)])

    assert refused.value.field == "items[1].images[0].data"
    assert client.embed([photo(1)]).vectors.shape == (1, 8)


def test_another_model_is_not_found(client: VitrineClient) -> None:
    with pytest.raises(NotFound, match="this server serves tiny-search@1, not 'other'"):
        client.embed([photo(1)], model="other")


def test_classify_gives_calibrated_labels_best_first(client: VitrineClient, encoder: Encoder) -> None:
    found = client.classify([photo(1)], top_k=3, abstain_below=0.0).items[0]

    logits = encoder.embed([photo(1)]).logits
    assert logits is not None
    expected = encoder.probabilities(logits)[0]
    assert [name for name, _ in found.labels] == [encoder.label_names[n] for n in np.argsort(-expected)]
    np.testing.assert_allclose([value for _, value in found.labels], np.sort(expected)[::-1], atol=1e-6)
    assert not found.abstained


def test_classify_abstains_below_the_threshold(client: VitrineClient) -> None:
    assert client.classify([photo(1)], abstain_below=1.0).items[0].abstained


def test_search_finds_the_very_photo_first(client: VitrineClient) -> None:
    result = client.search(photo(3), k=2)

    assert [result.hits[0].item_id, result.collection] == ["item-3", f"shop--{MODEL}--1"]
    assert result.hits[0].score == pytest.approx(1, abs=1e-5)
    assert result.hits[0].payload["label"] == "jug"


def test_an_item_asked_for_by_id_never_finds_itself(client: VitrineClient) -> None:
    hits = client.search(item_id="item-3", k=ITEMS).hits

    assert len(hits) == ITEMS - 1
    assert "item-3" not in {hit.item_id for hit in hits}


def test_filters_hold_for_every_hit(client: VitrineClient) -> None:
    where = (Condition("label", ("jug",)), Condition("price", low=2.0))

    hits = client.search(photo(0), where=where).hits

    assert {hit.item_id for hit in hits} == {"item-3", "item-5"}


def test_an_unknown_item_is_not_found(client: VitrineClient) -> None:
    with pytest.raises(NotFound, match="holds no item item-99"):
        client.search(item_id="item-99")


def test_reflection_lists_the_services(server: Running) -> None:
    with grpc.insecure_channel(server.address) as channel:
        listed = ProtoReflectionDescriptorDatabase(channel).get_services()

    assert {"vitrine.v1.Embedding", "vitrine.v1.Search", "grpc.health.v1.Health"} <= set(listed)


def test_a_client_that_knows_only_reflection_gets_the_same_vector(server: Running, client: VitrineClient) -> None:
    answer = reflected.embed(server.address, photo(4))

    assert list(answer.embeddings.shape) == [1, 8]
    assert answer.embeddings.data == client.embed([photo(4)]).vectors.tobytes()
    assert answer.version.model == "tiny-search"


def test_health_is_serving_once_a_version_is_live(server: Running) -> None:
    with grpc.insecure_channel(server.address) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="vitrine.v1.Search"))

    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_a_server_that_is_not_there_is_named_with_what_to_do() -> None:
    with VitrineClient("127.0.0.1:9", timeout_s=2) as nobody, pytest.raises(Unavailable) as refused:
        nobody.info()

    assert "no server answers at 127.0.0.1:9" in str(refused.value)
    assert "vitrine serve" in str(refused.value)


def test_classify_without_a_label_set_is_a_failed_precondition(home: Home, promoted: Callable[..., int]) -> None:
    promoted(seed=5)
    with (
        running(home) as unlabelled,
        VitrineClient(unlabelled.address) as client,
        pytest.raises(Unsupported, match="tiny-search@1 has no label set, so it cannot classify"),
    ):
        client.classify([photo(1)])


def test_an_unexpected_failure_tells_nothing_but_that(home: Home, promoted: Callable[..., int]) -> None:
    promoted(seed=6)

    def explode(_pixels: object) -> None:
        raise RuntimeError("a secret path")

    with running(home) as broken, VitrineClient(broken.address) as client:
        assert broken.live.snapshot is not None
        broken.live.snapshot.encoder.run = explode  # type: ignore[assignment,method-assign]
        with pytest.raises(VitrineError, match="answered INTERNAL: unexpected error; the server's log") as told:
            client.embed([photo(1)])
        assert "secret" not in str(told.value)


def test_an_address_that_is_taken_is_told_with_what_to_do(server: Running) -> None:
    with pytest.raises(
        Unavailable, match=rf"gRPC cannot listen on {server.address}: .*choose another with VITRINE_GRPC_ADDR"
    ):
        server.do(GrpcServer(server.live).start(server.address))
