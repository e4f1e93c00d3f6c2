"""What people make of a run's config.json by hand: every command names the field, what is there and what is needed."""

import json

import commands
import hypothesis
import pytest
from configs import FULL
from hostile import Case, check
from hypothesis import strategies

from dietjax.config import Experiment, as_stored, flat, read_stored
from dietjax.errors import InputError

STORED = as_stored(FULL)
COMMANDS = {"status": ("status", "RUN"), "evaluate": ("evaluate", "RUN"), "convert": ("convert", "RUN"),
            "energy": ("energy", "RUN")}


def with_field(field, value, stored=STORED):
    """What config.json holds, with another value in a field such as "ann.epochs"."""
    name, _, inside = field.partition(".")
    return {**stored, name: with_field(inside, value, stored[name]) if inside else value}


def field(name, value):
    return holding(lambda: json.dumps(with_field(name, value)))


def without(name):
    return holding(lambda: json.dumps({key: value for key, value in STORED.items() if key != name}))


def text(content):
    return holding(lambda: content)


def holding(content, command=()):
    """An attempt to read a config.json with this content, or at a command on its folder."""
    def attempt(folder):
        made = content()
        (folder / "config.json").write_bytes(made if isinstance(made, bytes) else made.encode())
        if not command:
            return read_stored(folder / "config.json")
        return commands.run(*(str(folder) if argument == "RUN" else argument for argument in command))

    return attempt


WHOLE = json.dumps(STORED)
CASES = [
    Case("a text for a whole number", field("ann.epochs", "3"), ("error", "ann.epochs must be int, got '3'")),
    Case("a fraction for a whole number", field("timesteps", 2.5), ("error", "timesteps must be int, got 2.5")),
    Case("true for a whole number", field("seed", True), ("error", "seed must be int, got True")),
    Case("null for a whole number", field("snn.batch_size", None), ("error", "snn.batch_size must be int, got None")),
    Case("a list for a whole number", field("conversion.images", [512]), ("error", "images must be int, got (512,)")),
    Case("a number of 30 digits", field("seed", 10**29), ("error", "seed must be int, got 1000")),
    Case("a text for a number", field("model.width", "half"), ("error", "model.width must be float, got 'half'")),
    Case("NaN for a number", field("ann.learning_rate", float("nan")), ("error", "ann.learning_rate must be > 0, got")),
    Case("infinity for a number", field("snn.weight_decay", float("inf")), ("error", "snn.weight_decay must be >= 0")),
    Case("a number for a text", field("name", 5), ("error", "name must be str, got 5")),
    Case("null for a name", field("data.name", None), ("error", "data.name must be str, got None")),
    Case("a number for a neuron", field("neuron.kind", 1), ("error", "neuron.kind must be str, got 1")),
    Case("1 for true", field("data.flip", 1), ("error", "data.flip must be bool, got 1")),
    Case("a text for true", field("truncate", "true"), ("error", "truncate must be bool, got 'true'")),
    Case("a misspelt choice", field("snn.optimizer", "adma"), ("error", "snn.optimizer 'adma'; did you mean 'adam'")),
    Case("a number for a choice", field("dtype", 32), ("error", "unknown dtype '32'", "Known: float32, bfloat16")),
    Case("an unknown network", field("model.name", "VGG17"), ("error", "unknown model.name 'VGG17'; did you mean")),
    Case("an unknown surrogate", field("neuron.surrogate", "arctn"), ("error", "neuron.surrogate 'arctn'; did you")),
    Case("a number for a list", field("model.classifier", 16),
         ("error", "model.classifier must be tuple of int or None, got 16")),
    Case("a list with a text in it", field("model.classifier", [16, "a"]), ("error", "of int or None, got (16, 'a')")),
    Case("a text for a list of texts", field("neuron.freeze", "leak"), ("error", "neuron.freeze must be tuple of str")),
    Case("a list in a list", field("ann.milestones", [[1]]), ("error", "ann.milestones must be tuple of float")),
    Case("a number for a phase", field("ann", 3), ("error", "ann must be an object with the fields of Phase, got 3")),
    Case("null for a model", field("model", None), ("error", "model must be an object with the fields of Model")),
    Case("a list for the neuron", field("neuron", []), ("error", "neuron must be an object with the fields of Neuron")),
    Case("no batch at all", field("ann.batch_size", 0), ("error", "ann.batch_size must be > 0, got 0")),
    Case("a dropout of 1", field("model.conv_dropout", 1), ("error", "model.conv_dropout must be in [0, 1), got 1")),
    Case("an unknown field", holding(lambda: json.dumps(STORED | {"timestep": 3})),
         ("error", "unknown Experiment field 'timestep'; did you mean 'timesteps'")),
    Case("no name", without("name"), ("error", "name is missing")),
    Case("a field twice", text(WHOLE.replace('"seed"', '"seed": 1, "seed"', 1)), ("error", "seed stands there twice")),
    Case("a comma too many", text(WHOLE[:-1] + ",}"), ("error", "PATH/config.json is damaged")),
    Case("single quotes", text(WHOLE.replace('"', "'")), ("error", "PATH/config.json is damaged")),
    Case("cut off", text(WHOLE[:200]), ("error", "PATH/config.json is damaged")),
    Case("empty", text(""), ("error", "PATH/config.json is damaged")),
    Case("a list", text("[1]"), ("error", "config.json is damaged or no dietjax config (no JSON object)")),
    Case("a thousand brackets", text("[" * 100_000), ("error", "PATH/config.json is damaged")),
    Case("bytes", text(b"\xff\xfe\0"), ("error", "PATH/config.json is damaged")),
    Case("whole numbers where fractions may stand", field("model.width", 2), ("taken", "width=2,")),
    Case("a kind of neuron of one's own", field("neuron.kind", "mine:Neuron"), ("taken", "kind='mine:Neuron'")),
    Case("as it was written", text(WHOLE), ("taken", str(FULL))),
    *(Case(f"a text for a number, {name}", holding(lambda: json.dumps(with_field("ann.epochs", "3")), command),
           ("error", "ann.epochs must be int, got '3'", "nothing was changed")) for name, command in COMMANDS.items()),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_stands_in_config_json_is_taken_or_named(case, tmp_path):
    check(case, tmp_path)


JSON = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | strategies.floats() | strategies.text(),
    lambda some: strategies.lists(some, max_size=3) | strategies.dictionaries(strategies.text(), some, max_size=3),
    max_leaves=5)
FIELDS = [*flat(STORED), *(name for name, value in STORED.items() if isinstance(value, dict))]


@pytest.mark.slow
@hypothesis.settings(max_examples=500, deadline=None, derandomize=True,
                     suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(name=strategies.sampled_from(FIELDS), value=JSON)
def test_any_value_in_any_field_is_read_or_named(tmp_path, name, value):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(with_field(name, value)), encoding="utf-8")
    try:
        experiment = read_stored(path)
    except InputError as error:
        assert name in str(error) or (isinstance(value, dict) and name in STORED), error
        return
    assert isinstance(experiment, Experiment)
    found, meant = flat(as_stored(experiment)), flat(with_field(name, value))
    assert {key: found[key] for key in meant} == meant


