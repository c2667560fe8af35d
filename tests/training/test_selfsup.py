"""Self-supervised training: the loss is the one in the books, and a seed is a result."""

from __future__ import annotations

import math

import pytest
import torch

from training.selfsup import Recipe, augment, nt_xent, train
from vitrine import plugins
from vitrine.errors import BadInput
from vitrine.ports import BackboneSpec

RECIPE = Recipe(epochs=2, batch_size=8, lr=0.003, weight_decay=0.0, temperature=0.2, projection=16, seed=3)


def backbone():
    return plugins.load("families", "timm").load(BackboneSpec("timm", "test_resnet", "random", 32))


def photos(count=16):
    return torch.randint(0, 256, (count, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_nt_xent_agrees_with_a_plain_loop():
    rows = torch.randn(8, 5, generator=torch.Generator().manual_seed(1))
    unit = (rows / rows.norm(dim=1, keepdim=True)).tolist()
    total = 0.0
    for i in range(8):
        scores = {
            j: math.exp(sum(a * b for a, b in zip(unit[i], unit[j], strict=True)) / 0.5) for j in range(8) if j != i
        }
        total -= math.log(scores[(i + 4) % 8] / sum(scores.values()))
    assert nt_xent(rows, 0.5).item() == pytest.approx(total / 8, rel=1e-5)


def test_the_same_seed_gives_the_same_weights():
    torch.set_num_threads(2)
    one, two = backbone(), backbone()
    assert train(one, photos(), RECIPE) == train(two, photos(), RECIPE)
    pairs = zip(one.module.state_dict().values(), two.module.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_training_moves_the_weights_and_ends_in_evaluation_mode():
    trained, fresh = backbone(), backbone()
    losses = train(trained, photos(), RECIPE)
    assert len(losses) == 2
    assert all(math.isfinite(loss) for loss in losses)
    assert not trained.module.training
    pairs = zip(trained.module.parameters(), fresh.module.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)


def test_two_views_of_a_photo_differ_and_fit_the_network():
    generator, network = torch.Generator().manual_seed(0), backbone()
    one, two = (augment(photos(4), network, generator) for _ in range(2))
    assert one.shape == two.shape == (4, 3, 32, 32)
    assert not torch.allclose(one, two)
    assert torch.isfinite(one).all()


def test_too_few_photos_are_refused():
    with pytest.raises(BadInput, match="at least 4 training photos, 3 given"):
        train(backbone(), photos(3), RECIPE)
