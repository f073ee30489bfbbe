from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cspine.errors import InputError, ModelError, UsageError
from cspine.training import Plan, Task, fit
from cspine.training.checkpoint import load_weights

CPU = torch.device("cpu")


def network() -> torch.nn.Module:
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Conv3d(1, 3, 3, padding=1), torch.nn.Conv3d(3, 1, 1))


def batches(step: int) -> dict[str, torch.Tensor]:
    image = torch.randn((2, 1, 4, 5, 6), generator=torch.Generator().manual_seed(step))
    return {"image": image, "wanted": 2 * image}


def loss(net: torch.nn.Module, batch) -> dict[str, torch.Tensor]:
    return {"loss": (net(batch["image"]).float() - batch["wanted"]).square().mean()}


def task(**config: object) -> Task:
    return Task(network(), batches, loss, config)


def test_training_brings_the_loss_down(tmp_path: Path):
    before = float(loss(network(), batches(99))["loss"].detach())
    done = fit(task(), Plan(steps=60, learning_rate=0.02, ema_decay=0.8), tmp_path, CPU)
    trained = network()
    trained.load_state_dict(done.average)
    assert float(loss(trained, batches(99))["loss"].detach()) < 0.9 * before


def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(tmp_path: Path):
    plan = Plan(steps=6, checkpoint_s=0.0)
    whole = fit(task(), plan, tmp_path / "whole", CPU)

    def killed(step: int) -> dict[str, torch.Tensor]:
        if step == 4:
            raise KeyboardInterrupt
        return batches(step)

    with pytest.raises(KeyboardInterrupt):
        fit(Task(network(), killed, loss), plan, tmp_path / "killed", CPU)
    resumed = fit(task(), plan, tmp_path / "killed", CPU)
    assert resumed.step == whole.step == 6
    for name, value in whole.average.items():
        assert torch.equal(value, resumed.average[name]), name


def test_the_same_seed_gives_the_same_weights(tmp_path: Path):
    first, second = (fit(task(), Plan(steps=2), tmp_path / name, CPU) for name in "ab")
    assert all(torch.equal(value, second.network[name]) for name, value in first.network.items())


def test_a_changed_config_is_refused_instead_of_resumed(tmp_path: Path):
    fit(task(data="phantom:10"), Plan(steps=1), tmp_path, CPU)
    with pytest.raises(UsageError, match="another config"):
        fit(task(data="phantom:20"), Plan(steps=2), tmp_path, CPU)


def test_a_changed_plan_is_refused_but_more_steps_are_not(tmp_path: Path):
    fit(task(), Plan(steps=1), tmp_path, CPU)
    with pytest.raises(UsageError, match="another config"):
        fit(task(), Plan(steps=2, learning_rate=0.5), tmp_path, CPU)
    assert fit(task(), Plan(steps=2), tmp_path, CPU).step == 2


def test_a_damaged_checkpoint_is_named(tmp_path: Path):
    (tmp_path / "checkpoint.pt").write_bytes(b"cut off")
    with pytest.raises(InputError, match=r"checkpoint\.pt' cannot be read"):
        fit(task(), Plan(steps=1), tmp_path, CPU)


def test_a_run_ends_with_its_minutes(tmp_path: Path):
    done = fit(task(), Plan(steps=10**9, minutes=0.005), tmp_path, CPU)
    assert 1 <= done.step < 10**6
    assert done.elapsed_s >= 0.3


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path):
    broken = Task(network(), batches, lambda net, batch: {"loss": net(batch["image"]).mean() * float("nan")})
    with pytest.raises(ModelError, match="not a finite number"):
        fit(broken, Plan(steps=3), tmp_path, CPU)


def test_each_checkpoint_is_announced_after_it_was_written(tmp_path: Path):
    seen = []
    fit(
        task(),
        Plan(steps=3, checkpoint_s=0.0),
        tmp_path,
        CPU,
        lambda made: seen.append((made.step, (tmp_path / "checkpoint.pt").exists())),
    )
    assert seen[0] == (1, True)
    assert seen[-1] == (3, True)


def test_tensorboard_events_are_written_where_asked_for(tmp_path: Path):
    fit(task(), Plan(steps=2, log_steps=1, tensorboard=True), tmp_path, CPU)
    assert list(tmp_path.glob("events.out.tfevents.*"))


def test_a_compiled_network_is_trained_to_the_same_weights(tmp_path: Path):
    plain = fit(task(), Plan(steps=3), tmp_path / "plain", CPU)
    compiled = fit(task(), Plan(steps=3, compiled=True), tmp_path / "compiled", CPU)
    for name, value in plain.average.items():
        torch.testing.assert_close(compiled.average[name], value, rtol=0.02, atol=1e-4)


def test_a_run_goes_on_compiled_where_it_began_as_it_was(tmp_path: Path):
    fit(task(), Plan(steps=1), tmp_path, CPU)
    assert fit(task(), Plan(steps=2, compiled=True), tmp_path, CPU).step == 2


def test_compiling_without_a_compiler_is_said_in_a_sentence(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (None, "no-compiler-here"))
    torch._dynamo.reset()
    net = torch.nn.Sequential(torch.nn.Conv3d(1, 1, 3, padding=1), torch.nn.Softplus())
    with pytest.raises(UsageError, match=r"install a C\+\+ compiler"):
        fit(Task(net, batches, loss), Plan(steps=1, compiled=True), tmp_path, CPU)


def test_weights_of_another_architecture_are_refused_by_what_differs(tmp_path: Path):
    torch.save(torch.nn.Conv3d(1, 3, 5).state_dict(), tmp_path / "other.pt")
    with pytest.raises(ModelError, match=r"another architecture than this Sequential: '0\.bias' is missing"):
        load_weights(network(), tmp_path / "other.pt")


def test_weights_of_other_sizes_are_refused_by_the_first_one(tmp_path: Path):
    smaller = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 3, padding=1), torch.nn.Conv3d(2, 1, 1))
    torch.save(smaller.state_dict(), tmp_path / "other.pt")
    with pytest.raises(ModelError, match=r"'0\.bias' is \(2,\) instead of \(3,\)"):
        load_weights(network(), tmp_path / "other.pt")


def test_a_file_that_holds_no_weights_is_named(tmp_path: Path):
    (tmp_path / "other.pt").write_bytes(b"text")
    with pytest.raises(ModelError, match=r"other\.pt' cannot be read as a file of weights"):
        load_weights(network(), tmp_path / "other.pt")
