"""DistributedDataParallel: the ranks' gates add up to those of one process, and no rank waits in vain."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
    pytest.skip("this PyTorch has no gloo", allow_module_level=True)

from adapters.torch.parallel_training import PART, STEPS, batch, setting  # noqa: E402

import backstory  # noqa: E402
from backstory.adapters.torch import TorchSource  # noqa: E402
from backstory.errors import RunError  # noqa: E402
from backstory.insight.experiment import experiment  # noqa: E402

SCRIPT = Path(__file__).with_name("parallel_training.py")
PATIENCE = 120  # seconds after which a rank that waits in vain is killed


def launch(scenario, folder):
    """The ranks' exit codes and what they said."""
    command = [sys.executable, "-W", "error", str(SCRIPT), scenario]
    ranks = [
        subprocess.Popen(
            [*command, str(rank), "2", str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [rank.communicate(timeout=PATIENCE)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    return [rank.returncode for rank in ranks], said


def in_one_process(extra=lambda step: False, parts=2, ranks=2):
    """Losses, and per site the open counts at every step, over the union of all batches."""
    net, optimizer, x = setting()
    losses, opened = [], {"relu#0": [], "relu#1": [], "leaky_relu#0": []}
    for step in range(STEPS):
        optimizer.zero_grad()
        found = dict.fromkeys(opened, 0)
        loss = 0.0
        for part in range(parts):
            for rank in range(ranks):
                inputs = batch(x, step, rank, part)
                with torch.no_grad():
                    h = net.a(inputs).relu()
                    found["relu#0"] += (h > 0).sum(0).numpy()
                    found["relu#1"] += (net.b(h) > 0).sum(0).numpy()
                    if extra(step) and rank == 1:
                        found["leaky_relu#0"] += (h > 0).sum(0).numpy()
                loss = loss + (net(inputs, extra(step) and rank == 1) ** 2).mean() / parts / ranks
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        for site, counts in found.items():
            opened[site].append(counts)
    return losses, opened


def test_counts_and_losses_of_two_ranks_are_those_of_one_process_over_all_batches(tmp_path):
    codes, said = launch("plain", tmp_path)
    assert codes == [0, 0], said
    run = backstory.open_run(tmp_path / "run")
    losses, opened = in_one_process()
    np.testing.assert_allclose(run.losses, losses, rtol=1e-12)
    assert run._rows("SELECT DISTINCT samples FROM gates") == [(4 * PART,)]
    assert run._rows("SELECT DISTINCT backwards FROM steps") == [(2,)]
    for site in ("relu#0", "relu#1"):
        steps, shares = run.gates(site)
        assert steps.tolist() == list(range(1, STEPS + 1))
        np.testing.assert_array_equal(shares * 4 * PART, opened[site])
    assert run.metrics("progress") == [(step + 1, step) for step in range(STEPS)]
    assert run.meta["status"] == "finished"
    assert np.isfinite(run.norms()["a.weight"]).all()

    second = backstory.open_run(tmp_path / "second")
    losses, opened = in_one_process(lambda step: step % 8 == 0)
    np.testing.assert_allclose(second.losses, losses, rtol=1e-12)
    np.testing.assert_array_equal(second.gates("relu#1")[1] * 4 * PART, opened["relu#1"][::4])
    steps, shares = second.gates("leaky_relu#0")
    assert steps.tolist() == [1, 9, 17, 25, 33]  # seen by rank 1 alone, on half of the samples
    np.testing.assert_array_equal(shares * 2 * PART, opened["leaky_relu#0"][::8])


def test_a_rank_that_fails_to_record_ends_the_recording_on_all_and_no_training(tmp_path):
    codes, said = launch("failing", tmp_path)
    assert codes == [0, 0], said
    run = backstory.open_run(tmp_path / "run")
    ((step, why),) = run.findings("recording-failed")
    assert step == 16
    assert "on rank 1 it failed" in why
    assert run.steps.tolist() == list(range(1, 17))


def test_a_rank_that_raises_is_not_waited_for(tmp_path):
    codes, said = launch("raising", tmp_path)
    assert codes == [1, 1], said
    assert "ValueError: the user's own" in said[1]
    run = backstory.open_run(tmp_path / "run")
    assert run.meta["status"].startswith("ended by ")
    assert run.steps.tolist() == list(range(1, 21))
    # Where the ranks did not meet any more, rank 0 stores its own samples.
    samples = run._rows("SELECT step, samples FROM gates WHERE site = 0 ORDER BY step")
    assert samples == [(step, 2 * PART if step <= 16 else PART) for step in range(1, 21)]


def test_ranks_that_run_out_of_data_one_by_one_are_combined_at_the_end(tmp_path):
    codes, said = launch("uneven", tmp_path)
    assert codes == [0, 0], said
    run = backstory.open_run(tmp_path / "run")
    samples = run._rows("SELECT samples FROM gates WHERE site = 0 ORDER BY step")
    assert run.sites[0].units == 3  # channels, each at four places
    assert samples == [(4 * 2 * PART,)] * 20 + [(4 * PART,)] * 17


def test_a_single_rank_records_as_without_ranks(tmp_path):
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        net, optimizer, x = setting()
        model = torch.nn.parallel.DistributedDataParallel(net)
        with backstory.watch(model, optimizer, tmp_path / "run", data=x) as run:
            (model(batch(x, 0, 0, 0)) ** 2).mean().backward()
            optimizer.step()
            assert len(run.losses) == 1
    finally:
        torch.distributed.destroy_process_group()


def test_an_experiment_of_several_processes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(TorchSource, "processes", 2)
    with pytest.raises(RunError, match="2 processes train"):
        experiment(watched_by_an_experiment, {}, tmp_path / "run")


def watched_by_an_experiment(config, watch):
    net, optimizer, x = setting()
    watch(net, optimizer, data=x)
