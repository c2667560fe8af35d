"""The trainer: a schedule that follows its formula, and a resumed training that is the uninterrupted one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from training.batches import plan, seed_of
from training.checkpoints import Checkpoints, State
from training.fitting import fit
from training.objectives import Objective
from training.photos import Photos
from training.recipe import Recipe, learning_rate, resolve_precision
from vitrine.errors import BadInput
from vitrine.images import ImageSpec

ROOT = Path(__file__).parents[2]
RECIPE = Recipe(epochs=6, batch_size=8, lr=0.01, weight_decay=0.01, seed=3)


class Tiles:
    """Photos in memory, without files."""

    def __init__(self, count=32):
        self.pixels = torch.randint(
            0, 256, (count, 3, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
        )

    def __len__(self):
        return len(self.pixels)

    def batches(self, orders):
        return ((rows, self.pixels[rows]) for rows in orders)


class Brightness(Objective):
    """Regression of the mean pixel, with dropout, batch statistics and noise: all that a checkpoint must not lose."""

    def __init__(self, count=32):
        super().__init__()
        torch.manual_seed(1)
        self.targets = Tiles(count).pixels.float().mean((1, 2, 3)) / 255
        self.net = torch.nn.Sequential(
            torch.nn.Linear(108, 16), torch.nn.BatchNorm1d(16), torch.nn.Dropout(0.3), torch.nn.Linear(16, 1)
        )

    def loss(self, photos, targets, generator):
        noise = torch.rand(len(photos), 108, generator=generator)
        return (self.net(photos.flatten(1).float() / 255 + noise)[:, 0] - targets).square().mean()


class StopError(Exception):
    """Somebody pulled the plug."""


def pulled_after(epochs):
    """A score that raises once so many epochs are kept."""
    seen = []

    def score():
        seen.append(1)
        if len(seen) > epochs:
            raise StopError
        return float([0.1, 0.5, 0.3, 0.2, 0.4, 0.45][len(seen) - 1])

    return score


def weights(objective):
    return {name: tensor.clone() for name, tensor in objective.state_dict().items()}


def same(one, two):
    return all(torch.equal(one[name], two[name]) for name in two) and one.keys() == two.keys()


def test_a_resumed_training_ends_with_the_weights_and_losses_of_an_uninterrupted_one(tmp_path):
    whole = Brightness()
    expected = fit(whole, Tiles(), RECIPE)
    halted = Brightness()
    with pytest.raises(StopError):
        fit(halted, Tiles(), RECIPE, checkpoints=tmp_path, track=interrupt(after=14))
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-0003"]
    resumed = Brightness()
    found = fit(resumed, Tiles(), RECIPE, checkpoints=tmp_path)
    assert found.losses == expected.losses
    assert same(weights(resumed), weights(whole))
    assert found.images == 3 * 32


def test_a_training_that_goes_on_says_after_which_epoch(tmp_path, capsys):
    with pytest.raises(StopError):
        fit(Brightness(), Tiles(), RECIPE, checkpoints=tmp_path, track=interrupt(after=14))
    assert capsys.readouterr().err == ""
    fit(Brightness(), Tiles(), RECIPE, checkpoints=tmp_path, what="full tuning")
    assert capsys.readouterr().err == "full tuning goes on after epoch 3 of 6\n"


def interrupt(after):
    """A progress bar that raises after so many batches."""

    def track(things, what, total=None):
        for number, thing in enumerate(things):
            if number == after:
                raise StopError
            yield thing

    return track


def test_the_best_epoch_survives_an_interruption(tmp_path):
    """Scores rise to the second epoch; the interruption comes after the fourth."""
    scores = [0.1, 0.5, 0.3, 0.2, 0.4, 0.45]
    ideal = Brightness()
    fit(ideal, Tiles(), RECIPE, score=iter([*scores]).__next__)
    halted = Brightness()
    with pytest.raises(StopError):
        fit(halted, Tiles(), RECIPE, checkpoints=tmp_path, score=pulled_after(4))
    resumed = Brightness()
    found = fit(resumed, Tiles(), RECIPE, checkpoints=tmp_path, score=iter(scores[4:]).__next__)
    assert found.scores == tuple(scores)
    assert found.best_epoch == 2
    assert same(weights(resumed), weights(ideal))


def test_the_kept_weights_are_those_of_the_best_epoch():
    seen = []
    objective = Brightness()
    scores = iter([0.1, 0.5, 0.3, 0.2, 0.4, 0.45])

    def score():
        seen.append(weights(objective))
        return next(scores)

    assert fit(objective, Tiles(), RECIPE, score=score).best_epoch == 2
    assert same(weights(objective), seen[1])
    assert not same(seen[1], seen[5])


def test_of_equal_epochs_the_later_one_is_kept():
    assert fit(Brightness(), Tiles(), RECIPE, score=iter([0.1, 0.5, 0.5, 0.2, 0.4, 0.3]).__next__).best_epoch == 3


def test_patience_ends_a_training_that_no_longer_gets_better():
    recipe = Recipe(epochs=6, batch_size=8, lr=0.01, weight_decay=0.0, seed=3, patience=2)
    found = fit(Brightness(), Tiles(), recipe, score=iter([0.1, 0.5, 0.3, 0.2, 0.9, 0.9]).__next__)
    assert found.scores == (0.1, 0.5, 0.3, 0.2)


def test_a_finished_training_that_was_not_exported_is_not_repeated(tmp_path):
    first = Brightness()
    expected = fit(first, Tiles(), RECIPE, checkpoints=tmp_path)
    again = Brightness()
    found = fit(again, Tiles(), RECIPE, checkpoints=tmp_path)
    assert (found.losses, found.images) == (expected.losses, 0)
    assert same(weights(again), weights(first))


def test_a_checkpoint_of_other_data_is_not_continued_and_one_sentence_says_so(tmp_path, capsys):
    fit(Brightness(), Tiles(), RECIPE, checkpoints=tmp_path, context={"dataset": "a"})
    found = fit(Brightness(), Tiles(), RECIPE, checkpoints=tmp_path, context={"dataset": "b"})
    assert found.images == 6 * 32
    assert capsys.readouterr().err == (
        f"the checkpoint in {tmp_path}/epoch-0006 is of other settings, data or weights and is not continued\n"
    )


def test_a_broken_checkpoint_is_not_continued(tmp_path, capsys):
    fit(Brightness(), Tiles(), RECIPE, checkpoints=tmp_path)
    (tmp_path / "epoch-0006/weights.safetensors").write_bytes(b"half")
    assert fit(Brightness(), Tiles(), RECIPE, checkpoints=tmp_path).images == 6 * 32
    assert "cannot be read and is not continued" in capsys.readouterr().err


def test_a_half_written_checkpoint_is_no_checkpoint(tmp_path):
    (tmp_path / ".0badcafe").mkdir()
    assert Checkpoints(tmp_path, "x").load() == State()


def test_a_checkpoint_holds_no_pickle(tmp_path):
    fit(Brightness(), Tiles(), RECIPE, checkpoints=tmp_path)
    files = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert files == ["optimiser.safetensors", "state.json", "weights.safetensors"]
    assert load_file(tmp_path / "epoch-0006/weights.safetensors")
    assert json.loads((tmp_path / "epoch-0006/state.json").read_text())["epoch"] == 6


def test_accumulated_batches_are_one_large_batch():
    """Without batch statistics and noise, two batches of 8 whose gradients are added up step like one of 16."""

    class Plain(Brightness):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Linear(108, 1)

        def loss(self, photos, targets, generator):
            return (self.net(photos.flatten(1).float() / 255)[:, 0] - targets).square().mean()

    torch.manual_seed(0)
    start = Plain().state_dict()
    found = []
    for size, accumulate in ((8, 2), (16, 1)):
        objective = Plain()
        objective.load_state_dict(start)
        fit(objective, Tiles(), Recipe(3, size, 0.01, 0.0, seed=5, accumulate=accumulate))
        found.append(torch.cat([tensor.flatten() for tensor in weights(objective).values()]))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)


def test_training_says_nothing_and_leaves_no_folder(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit(Brightness(), Tiles(), RECIPE)
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


def test_a_loss_that_is_no_number_ends_with_advice():
    class Broken(Brightness):
        def loss(self, photos, targets, generator):
            return super().loss(photos, targets, generator) * float("nan")

    with pytest.raises(BadInput, match=r"the loss of epoch 1 is nan; a smaller lr than 0.01 may help"):
        fit(Broken(), Tiles(), RECIPE)


def test_the_rate_rises_then_falls_to_zero():
    rates = [learning_rate(step, 100, 0.1) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert learning_rate(100, 100, 0.1) == 0.0


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"epochs": 0}, "epochs is 0, it must be at least 1"),
        ({"batch_size": 1}, "batch_size is 1, it must be at least 2"),
        ({"lr": 0.0}, "lr is 0.0, it must be above 0"),
        ({"warmup": 1.0}, "warmup is 1.0, it is a share of the steps"),
    ],
)
def test_numbers_that_no_training_can_follow_are_refused(wrong, sentence):
    with pytest.raises(BadInput, match=sentence):
        Recipe(**{"epochs": 1, "batch_size": 2, "lr": 0.1, "weight_decay": 0.0, "seed": 0, **wrong})


def test_an_unknown_precision_lists_the_known_ones():
    with pytest.raises(BadInput, match="precision is 'int8'; it is one of auto, fp32, bf16, fp16"):
        resolve_precision("int8")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_auto_is_fp32_and_fp16_is_refused():
    assert resolve_precision("auto") == "32-true"
    with pytest.raises(BadInput, match="fp16 needs an NVIDIA GPU"):
        resolve_precision("fp16")


def test_an_epoch_has_whole_batches_of_different_rows():
    batches = plan(50, 8, 2, None, torch.Generator().manual_seed(0))
    rows = torch.cat(batches)
    assert [len(batch) for batch in batches] == [8] * 6
    assert len(set(rows.tolist())) == 48


def test_no_batch_holds_a_key_twice_and_every_row_has_its_turn():
    keys = torch.arange(60) % 20
    batches = plan(60, 8, 2, keys, torch.Generator().manual_seed(0))
    assert all(len(set(keys[batch].tolist())) == len(batch) for batch in batches)
    assert len(batches) == 6  # three rounds of 20, two whole batches each
    seen = {
        row
        for seed in range(30)
        for b in plan(60, 8, 2, keys, torch.Generator().manual_seed(seed))
        for row in b.tolist()
    }
    assert seen == set(range(60))


def test_how_many_batches_there_are_does_not_depend_on_chance():
    keys = torch.tensor([0] * 9 + [1] * 4 + list(range(2, 25)))
    assert len({len(plan(len(keys), 8, 2, keys, torch.Generator().manual_seed(seed))) for seed in range(20)}) == 1


def test_every_epoch_has_a_seed_of_its_own():
    assert len({seed_of(seed, epoch) for seed in range(20) for epoch in range(20)}) == 400


class Folder:
    """A dataset of three photos, as far as `Photos` asks."""

    def photo(self, name):
        from tests.factories import photo

        return photo(int(name))


def test_photos_over_the_budget_are_decoded_again_and_are_the_same():
    names = [str(number) for number in range(9)]
    kept, streamed = (Photos(Folder(), names, ImageSpec(16, 16), budget=size) for size in (10**6, 10))
    assert streamed.pixels is None
    orders = [torch.tensor([3, 1, 4]), torch.tensor([8, 0]), torch.tensor([2])]
    for one, two in zip(kept.batches(orders), streamed.batches(orders), strict=True):
        assert torch.equal(one[0], two[0])
        assert torch.equal(one[1], two[1])


SCRIPT = """
import sys
import torch
torch.set_num_threads(1)
from pathlib import Path
from tests.training.test_fitting import Brightness, RECIPE, Tiles
from training.fitting import fit
from safetensors.torch import save_file
import time
slow = float(sys.argv[2])
objective = Brightness()
def track(things, what, total=None):
    for thing in things:
        time.sleep(slow)
        yield thing
fitted = fit(objective, Tiles(), RECIPE, checkpoints=Path(sys.argv[1]), track=track)
save_file({k: v.contiguous() for k, v in objective.state_dict().items()}, Path(sys.argv[1]) / "result.safetensors")
print(fitted.images)
"""


def process(folder, slow):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, "-c", SCRIPT, str(folder), str(slow)]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.e2e
def test_a_training_killed_with_signal_9_goes_on_to_the_same_bytes(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    uninterrupted = process(whole, 0)
    victim = process(killed, 0.1)
    deadline = time.monotonic() + 120
    while not (killed / "epoch-0002").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    victim.send_signal(signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL
    assert not (killed / "result.safetensors").exists()
    again = process(killed, 0)
    images, _ = again.communicate(timeout=120)
    assert uninterrupted.wait(timeout=120) == 0
    assert 0 < int(images) <= 4 * 32  # the first two epochs are not repeated
    assert (killed / "result.safetensors").read_bytes() == (whole / "result.safetensors").read_bytes()
