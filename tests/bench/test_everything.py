"""Laws of `dietjax bench all`: what runs, in which order, what is kept, what is said of the rest."""

import dataclasses
import json
import pathlib
import shlex
import time

import pytest
import tyro

from dietjax.bench import everything, plan
from dietjax.bench.commands import Speedrun
from dietjax.bench.main import Bench
from dietjax.bench.options import spelled
from dietjax.cli import main as cli

SPEEDRUN = Speedrun(pathlib.Path("a b.py"), pathlib.Path("run"), 0.9)
PLANS = [plan.plan(sizes, SPEEDRUN, accelerator, devices)
         for sizes in (plan.LENT, plan.TOY) for accelerator, devices in ((True, 1), (True, 8), (False, 1))]


@pytest.mark.parametrize("suite", {spelled(suite.command)[1]: suite for suites in PLANS for suite in suites}.values(),
                         ids=lambda suite: suite.name)
def test_a_command_as_it_is_spelled_is_that_command(suite):
    words = spelled(dataclasses.replace(suite.command, **(
        {"peer": ("norse", "spyx")} if hasattr(suite.command, "peer") else {})))
    found = tyro.cli(Bench, args=words[1:]).suite
    assert spelled(found) == words and type(found) is type(suite.command)
    assert found == suite.command or hasattr(suite.command, "peer")


def test_names_are_unique_and_suites_have_a_place():
    for suites in PLANS:
        assert len({suite.name for suite in suites}) == len(suites) > 5
        assert all(0 < suite.least < suite.limit for suite in suites)
    alone, several, cpu = ([suite.name for suite in suites] for suites in PLANS[:3])
    assert set(several) - set(alone) == {"scaling_vgg16"} and set(cpu) < set(alone)


# ---- running: children are not started here, but what they would leave is


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Runs `bench all` where suites take the seconds and end as they are told: (status, order)."""
    order, now, ends = [], [0.0], {}
    monkeypatch.setattr(everything.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(everything, "_make_experiment", lambda *_: None)
    monkeypatch.setattr(plan.importlib.util, "find_spec", lambda name: True)

    def run(out, name, arguments, scratch, seconds):
        if name == "environment":
            return 0, json.dumps({"device": "abacus", "backend": "gpu", "devices": 1}), ""
        order.append(name)
        code, takes, says = ends.get(name, (0, 60, ""))
        now[0] += min(takes, seconds)
        if takes > seconds:
            return None, "", "it takes too long"
        result = {"title": "", "rows": [], "environment": {}, "command": shlex.join(arguments[1:-1])}
        return code, json.dumps(result) if code == 0 else "", says

    monkeypatch.setattr(everything, "_run", run)

    def start(*arguments, **told):
        ends.clear()
        ends.update(told)
        order.clear()
        now[0] = 0.0
        try:
            status = cli.main(["bench", "all", "--out", str(tmp_path), *arguments])
        except SystemExit as ended:
            status = ended.code
        return status, list(order)

    return start


def test_what_time_is_left_for_runs_in_order_and_the_same_command_goes_on(machine, tmp_path, capsys):
    """Ten suites of 60 seconds in 5 minutes: five; the next of them needs as much as is left, or more."""
    names = [suite.name for suite in PLANS[0]]
    status, first = machine("--minutes", "5")
    assert status == 0 and first == names[:5]
    assert {path.stem for path in tmp_path.glob("*.json")} == {*first, "environment"}
    assert f"not for lack of time: {', '.join(names[5:])}; the same command goes on" in capsys.readouterr().out
    status, second = machine("--minutes", "100")
    assert status == 0 and second == names[5:]
    assert machine("--minutes", "100") == (0, [])


def test_a_suite_that_ends_with_the_time_is_not_failed(machine, tmp_path, capsys):
    status, order = machine("--minutes", "2", neuron_bfloat16=(0, 100, ""))
    assert status == 0 and order == ["step_vgg16_bfloat16", "neuron_bfloat16"]
    assert not (tmp_path / "neuron_bfloat16.json").exists()
    assert "not for lack of time: neuron_bfloat16, " in " ".join(capsys.readouterr().out.split())


def test_a_failed_suite_costs_nothing_but_itself(machine, tmp_path, capsys):
    """What fails with its peers runs without them; what takes longer than its limit has failed."""
    status, order = machine("--minutes", "60", step_vgg16_bfloat16=(1, 9, "RuntimeError: no kernel"),
                            neuron_bfloat16=(0, 151, ""), neuron_float16=(-9, 3, "ended with -9"))
    names = [suite.name for suite in PLANS[0]]
    assert status == 1 and order == [names[0], f"{names[0]}_alone", *names[1:]]
    out = capsys.readouterr().out
    assert "step_vgg16_bfloat16: failed after 9 s: RuntimeError: no kernel\n" in out
    assert "failed: step_vgg16_bfloat16, neuron_bfloat16, neuron_float16; what they said is in" in out
    alone = json.loads((tmp_path / "step_vgg16_bfloat16_alone.json").read_text())
    assert "--peer" not in alone["command"]
    assert not (tmp_path / "neuron_bfloat16.json").exists()


def test_another_command_s_result_is_measured_again(machine):
    assert machine("--minutes", "1.5", "--toy")[1][:1] == machine("--minutes", "1.5")[1][:1]


@pytest.mark.parametrize("name, contents, says", [
    ("environment.json", '{"device": "another"}', "holds what another measured, and this is abacus: name another"),
    ("neuron_bfloat16.json", '{"mine": 1}', "neuron_bfloat16.json is no result of `dietjax bench`, and would be"),
    ("neuron_bfloat16.json", "[1]", "is no result of `dietjax bench`"),
    ("neuron_bfloat16.json", "half a fi", "neuron_bfloat16.json is no JSON"),
])
def test_what_others_left_there_is_not_replaced(machine, tmp_path, capsys, name, contents, says):
    (tmp_path / name).write_text(contents)
    assert machine() == (2, [])
    assert says in capsys.readouterr().err and (tmp_path / name).read_text() == contents


def test_the_experiment_that_is_made_is_one(tmp_path):
    from dietjax import config, data

    everything._make_experiment(tmp_path, plan.TOY)
    made = config.load_experiment(tmp_path / "vgg16.py")
    assert made.timesteps == plan.TOY.steps and made.dtype == "bfloat16" and made.data.name == "npz:images.npz"
    found = data.load(f"npz:{tmp_path}/images.npz", None)
    assert found.train.num_examples == everything.BATCHES * plan.TOY.batch and found.image_shape == plan.TOY.shape


@pytest.mark.slow
def test_a_child_is_ended_with_what_it_started_and_its_last_line_is_kept(tmp_path):
    (tmp_path / "log").mkdir()
    refused = ["-m", "dietjax", "bench", "step", "--timesteps", "0"]
    code, _, says = everything._run(tmp_path, "x", refused, str(tmp_path), 60)
    assert code == 2 and "--timesteps must be at least 1" in says
    assert "at least 1" in (tmp_path / "log/x.txt").read_text()
    sleeps = "import subprocess, sys\nsubprocess.run(['sleep', '50'])"
    began = time.monotonic()
    code, _, says = everything._run(tmp_path, "x", ["-c", sleeps], str(tmp_path), 1)
    assert code is None and says == "it takes longer than 1 s" and time.monotonic() - began < 20
