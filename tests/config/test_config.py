"""Laws of dietjax.config: a config survives JSON, and what no run could use is refused by name before any work."""

import dataclasses
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import tyro
from configs import FULL, TODAY, changed

from dietjax.config import (
    AnnNeuron,
    Conversion,
    Data,
    Experiment,
    Model,
    Neuron,
    check,
    doubts,
    from_dict,
    read_stored,
    resolved,
)
from dietjax.config.stored import as_stored
from dietjax.errors import InputError


@pytest.mark.parametrize("experiment", [Experiment(name="x"), FULL, TODAY])
def test_a_config_survives_json(experiment):
    assert from_dict(Experiment, json.loads(json.dumps(dataclasses.asdict(experiment)))) == experiment
    assert hash(from_dict(Experiment, json.loads(json.dumps(dataclasses.asdict(experiment))))) == hash(experiment)


def test_every_default_and_every_choice_above_can_run():
    check(Experiment(name="x"))
    check(FULL)
    check(changed(FULL, "model.classifier", ()))
    check(TODAY)


def test_a_config_stored_under_earlier_names_is_read(tmp_path):
    stored = dataclasses.asdict(FULL)
    stored["neuron"] = {"leak": 0.5, "per": "channel", "reset": "zero", "surrogate": "arctan",
                        "fixed": ["leak", "threshold"], "initial_membrane": 0.25}
    (tmp_path / "config.json").write_text(json.dumps(stored))
    assert read_stored(tmp_path / "config.json") == FULL


def test_a_field_under_both_its_names_is_refused():
    with pytest.raises(InputError, match="unknown Neuron field 'per'"):
        from_dict(Neuron, {"per": "channel", "sharing": "layer"})


@pytest.mark.parametrize("batch_norm, method, given, percentile, scale, membrane", [
    (False, None, {}, 99.7, 0.2, 0.0),  # the paper's
    (True, None, {}, 99.9, 1.0, 0.5),
    (False, "match", {}, 99.9, 1.0, 0.5),
    (True, "match", {"percentile": 99.0, "scale": 0.7}, 99.0, 0.7, 0.5),
    (True, "percentile", {}, 99.7, 0.2, 0.0),
    (True, "percentile", {"percentile": 98.0, "scale": 0.4}, 98.0, 0.4, 0.0),
    (False, "max", {"percentile": 99.7}, 100.0, 0.2, 0.0),
    (True, "spikenorm", {}, 100.0, 0.2, 0.0),
])
def test_what_none_means_for_a_conversion(batch_norm, method, given, percentile, scale, membrane):
    asked = Experiment("x", model=Model(batch_norm=batch_norm), conversion=Conversion(method, **given))
    meant = resolved(asked)
    check(meant)
    wanted = method or ("match" if batch_norm else "percentile")
    assert (meant.conversion.method, meant.conversion.percentile, meant.conversion.scale) == (wanted, percentile, scale)
    assert meant.neuron.initial_membrane == membrane
    assert resolved(meant) == meant
    set_by_hand = dataclasses.replace(asked, neuron=Neuron(initial_membrane=0.3))
    assert resolved(set_by_hand).neuron.initial_membrane == 0.3


@pytest.mark.parametrize(("timesteps", "scale"), [(2, 0.2), (20, 0.3), (200, 0.7)])
def test_the_papers_scale_goes_by_timesteps(timesteps, scale):
    assert resolved(Experiment("x", timesteps=timesteps)).conversion.scale == scale
    assert resolved(Experiment("x", timesteps=timesteps, model=Model(batch_norm=True))).conversion.scale == 1


@pytest.mark.parametrize("method", ["percentile", "max", "spikenorm"])
def test_scaling_thresholds_after_batch_norm_is_doubted_and_runs(method):
    asked = Experiment("x", model=Model(batch_norm=True), conversion=Conversion(method))
    check(asked)
    sentence, = doubts(asked)
    assert sentence.startswith(f"conversion.method {method} scales thresholds") and "to match or None" in sentence
    for fine in (dataclasses.replace(asked, model=Model()), Experiment("x", model=Model(batch_norm=True)),
                 dataclasses.replace(asked, conversion=Conversion("match"))):
        assert doubts(fine) == []


@pytest.mark.parametrize("timesteps, says", [
    (2, "the ANN has ann_neuron.levels 4 and the SNN 2 timesteps, so conversion rounds 5 values .* to 3, .*levels 2"),
    (4, None), (8, "levels 4 and the SNN 8 timesteps: each beyond 4 costs energy"),
])
def test_other_levels_than_timesteps_run_and_say_what_that_costs(timesteps, says):
    asked = Experiment("x", timesteps=timesteps, ann_neuron=AnnNeuron("qcfs", levels=4))
    check(asked)
    found = doubts(asked)
    assert len(found) == (says is not None) and all(re.search(says, sentence) for sentence in found)
    assert doubts(dataclasses.replace(asked, ann_neuron=AnnNeuron())) == []


def test_a_config_stored_before_match_keeps_its_conversion(tmp_path):
    """Batch norm and all: it says percentile, and its membranes started at 0."""
    stored = dataclasses.asdict(Experiment("x", model=Model(batch_norm=True)))
    stored["conversion"] = {"method": "percentile", "percentile": 99.7, "images": 512, "timesteps": 100, "scale": None}
    del stored["neuron"]["initial_membrane"]
    (tmp_path / "config.json").write_text(json.dumps(stored))
    meant = resolved(read_stored(tmp_path / "config.json"))
    assert (meant.conversion, meant.neuron.initial_membrane) == (Conversion("percentile", 99.7, 512, 100, 0.2), 0.0)


@pytest.mark.parametrize("size", [None, 224, (48, 96)])
def test_one_number_and_two_are_read_back_and_parsed(tmp_path, size):
    """config.json without the settings that came with the second number: as of an earlier version."""
    stored = as_stored(Experiment("x", data=Data(image_size=size)))
    for name in ("channels", "holdout", "holdout_seed"):
        del stored["data"][name]
    (tmp_path / "config.json").write_text(json.dumps(stored))
    assert read_stored(tmp_path / "config.json") == Experiment("x", data=Data(image_size=size))
    given = [str(part) for part in np.ravel(size).tolist()]
    assert tyro.cli(Data, args=["--image-size", *given]) == Data(image_size=size)


@pytest.mark.parametrize("values, near", [
    ({"name": "x", "timestep": 3}, "timesteps"),
    ({"name": "x", "ann": {"epoch": 3}}, "epochs"),
    ({"name": "x", "model": {"batchnorm": True}}, "batch_norm"),
])
def test_an_unknown_field_names_the_nearest(values, near):
    with pytest.raises(InputError, match=f"did you mean '{near}'"):
        from_dict(Experiment, values)


POSITIVE = ["timesteps", "conversion.images", "conversion.timesteps", "conversion.scale", "conversion.percentile",
            "data.image_size", "data.threads", "model.width",
            *(f"{phase}.{field}" for phase in ("ann", "snn")
              for field in ("batch_size", "learning_rate", "checkpoint_every")), "snn.epochs"]


@pytest.mark.parametrize("value", [0, -1])
@pytest.mark.parametrize("field", POSITIVE)
def test_what_must_be_positive_is_refused_by_name(field, value):
    with pytest.raises(InputError, match=rf"^{field} must be .*, got {value}"):
        check(changed(FULL, field, value))


@pytest.mark.parametrize("field, value", [
    ("ann.epochs", -1),
    ("seed", -1), ("data.crop_padding", -1), ("ann.weight_decay", -0.1), ("snn.momentum", 1.0), ("snn.momentum", -0.1),
    ("model.conv_dropout", 1.0), ("model.classifier_dropout", -0.1), ("model.classifier", (16, 0)),
    ("neuron.leak", 1.5), ("neuron.leak", -0.5), ("conversion.percentile", 100.1),
    ("neuron.initial_membrane", -0.1), ("neuron.initial_membrane", 1.0),
    ("ann.learning_rate", float("nan")), ("ann.learning_rate", float("inf")), ("data.sensor_size", (34, 0)),
    ("data.events_window", 0), ("data.drop_events", 1.0), ("data.drop_events", -0.1),
    ("data.image_size", (48, 0)), ("data.holdout", 1.0), ("data.holdout", -0.1), ("data.holdout_seed", -1),
])
def test_what_is_out_of_range_is_refused_by_name(field, value):
    with pytest.raises(InputError, match=rf"^{field} must be "):
        check(changed(FULL, field, value))


@pytest.mark.parametrize("field, value, near", [
    ("encoder", "poison", "poisson"), ("dtype", "float16", "bfloat16"), ("neuron.sharing", "chanel", "channel"),
    ("neuron.reset", "substract", "subtract"), ("ann.optimizer", "adma", "adam"),
    ("conversion.method", "percentil", "percentile"),
])
def test_an_unknown_choice_names_the_nearest(field, value, near):
    with pytest.raises(InputError, match=f"unknown {field} '{value}'; did you mean '{near}'"):
        check(changed(FULL, field, value))


@pytest.mark.parametrize("field, value", [
    ("timesteps", 2.5), ("timesteps", "5"), ("timesteps", True), ("timesteps", None), ("ann.learning_rate", "1e-3"),
    ("model", "VGG9"), ("neuron.freeze", "leak"), ("model.classifier", 16),
    ("truncate", 1), ("neuron.initial_membrane", "half"), ("data.dir", 3), ("data.skip_corrupt", 1),
    ("data.image_size", 22.5), ("data.image_size", (48, 96, 3)), ("data.image_size", (48, 9.5)),
    ("data.sensor_size", 34), ("data.sensor_size", (34,)), ("data.sensor_size", (3, 4, 5)),
    ("data.sensor_size", (3.0, 4)), ("data.events_window", 1e4),
])
def test_a_value_of_another_type_is_refused_by_name(field, value):
    with pytest.raises(InputError, match=f"^{field} must be .*, got "):
        check(changed(FULL, field, value))


def test_a_window_of_time_needs_frames_by_time():
    asked = changed(Experiment("x"), "data.events_window", 1000)
    with pytest.raises(InputError, match=r"data.events_window .* data.events_by is count: set data.events_by to time"):
        check(asked)
    check(changed(asked, "data.events_by", "time"))


@pytest.mark.parametrize("value", [2, True, 1.0, "3"])
def test_channels_are_1_or_3(value):
    with pytest.raises(InputError, match=rf"unknown data\.channels '{value}'.* Known: 1, 3\."):
        check(changed(FULL, "data.channels", value))
    check(changed(FULL, "data.channels", 3))


@pytest.mark.parametrize("timesteps, chunk, fits", [(6, 4, False), (6, 0, False), (6, 12, False), (6, 3, True),
                                                    (6, 1, True), (6, 6, True), (6, None, True)])
def test_chunk_must_divide_timesteps(timesteps, chunk, fits):
    experiment = dataclasses.replace(FULL, timesteps=timesteps, chunk=chunk)
    if fits:
        check(experiment)
    else:
        with pytest.raises(InputError, match=f"chunk={chunk}, timesteps=6"):
            check(experiment)


@pytest.mark.parametrize("module, absent", [
    ("dietjax.config", ("jax", "flax", "optax", "numpy", "tyro")),
    ("dietjax.cli.main", ("jax", "flax", "optax", "orbax", "matplotlib", "tensorflow_datasets", "grain", "cv2")),
    ("dietjax", ("tensorflow_datasets", "grain", "array_record", "cv2")),
    pytest.param("dietjax, dietjax.run.recipe, dietjax.train.loop",
                 ("tensorflow_datasets", "array_record", "cv2", "matplotlib"), marks=pytest.mark.slow),
])
def test_import_loads_no_more_than_it_needs(module, absent):
    code = f"import sys, {module}; print([m for m in {absent} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
