"""Laws of config.doubts: a setting that does nothing is named with what it needs, and only where it was set."""

import operator

import pytest
from configs import FULL, TODAY, changed

from dietjax.config import Experiment, Model, Neuron, Phase, check, doubts
from dietjax.config.doubts import IDLE, IDLE_OF_A_PHASE

PLAIN = Experiment("x")
CASES = [  # setting, another value than the default, what it needs, settings that make it do something
    ("data.holdout_seed", 3, "data.holdout above 0", {"data.holdout": 0.1}),
    ("data.crop_fill", "reflect", "data.crop_padding above 0", {"data.crop_padding": 2}),
    ("data.events_by", "time", "data.name events:PATH or saccade_digits", {"data.name": "saccade_digits"}),
    ("data.events_window", 9, "data.name events:PATH or saccade_digits", {"data.name": "events:here"}),
    ("data.events_binary", True, "data.name events:PATH or saccade_digits", {"data.name": "saccade_digits"}),
    ("data.sensor_size", (4, 4), "data.name events:PATH or saccade_digits", {"data.name": "events:here"}),
    ("model.norm_scale", False, "model.batch_norm", {"model.batch_norm": True}),
    ("model.classifier_dropout", 0.1, "hidden layers in model.classifier", {"model.classifier": (16,)}),
    ("ann_neuron.levels", 5, "ann_neuron.kind qcfs", {"ann_neuron.kind": "qcfs"}),
    ("ann_neuron.threshold", 2.0, "ann_neuron.kind qcfs", {"ann_neuron.kind": "qcfs"}),
    ("conversion.percentile", 99.0, "conversion.method match or percentile", {"conversion.method": None}),
    ("conversion.timesteps", 9, "conversion.method percentile or spikenorm", {"conversion.method": "spikenorm"}),
    ("truncate", True, "chunk below timesteps", {"chunk": 1}),
    ("ann.momentum", 0.5, "ann.optimizer sgd or muon", {"ann.optimizer": "sgd"}),
    ("snn.adam_learning_rate", 0.1, "snn.optimizer muon", None),
    ("snn.step_factor", 0.5, "snn.schedule steps", {"snn.schedule": "steps", "snn.milestones": (3,)}),
    ("snn.temperature", 4.0, "snn.distillation above 0", {"snn.distillation": 0.5}),
    ("ann.temperature", 4.0, "to be snn.temperature", None),
    ("snn.label_smoothing", 0.1, "snn.distillation below 1", {"snn.distillation": 0.5}),
    ("snn.tet_weight", 0.1, "snn.distillation below 1", {"snn.distillation": 0.5}),
    ("snn.tet_mean", 0.5, "snn.tet_lambda above 0", {"snn.tet_weight": 0.5, "snn.tet_lambda": 0.1}),
    ("ann.tet_mean", 0.5, "to be snn.tet_mean", None),
]
BEFORE = {  # settings under which each of them does nothing, where the defaults are not
    "data.events_window": {"data.events_by": "time"},
    "model.classifier_dropout": {"model.classifier": ()}, "conversion.percentile": {"conversion.method": "max"},
    "conversion.timesteps": {"conversion.method": "max"},
    "snn.label_smoothing": {"snn.distillation": 1.0}, "snn.tet_weight": {"snn.distillation": 1.0},
}


def with_settings(experiment, settings):
    for name, value in settings.items():
        experiment = changed(experiment, name, value)
    return experiment


@pytest.mark.parametrize("setting, value, needs, remedy", CASES, ids=[case[0] for case in CASES])
def test_what_does_nothing_is_named_with_what_it_needs(setting, value, needs, remedy):
    idle = with_settings(PLAIN, BEFORE.get(setting, {}))
    asked = changed(idle, setting, value)
    check(asked)
    assert f"{setting} {value} does nothing: it needs {needs}" in doubts(asked)
    assert not any(sentence.startswith(f"{setting} ") for sentence in doubts(idle))
    if remedy is not None:
        used = with_settings(asked, remedy)
        check(used)
        assert not any(sentence.startswith(f"{setting} ") for sentence in doubts(used))


@pytest.mark.parametrize("parameters, batch_norm, says", [
    ((), False, "the first layer gets the whole image at every timestep"),
    ((), True, "the biases into which model.batch_norm folds are added up"),
    (("inputs=values",), False, "layers behind the first take the changes")])
def test_one_sigma_delta_neuron_for_all_layers_is_doubted(parameters, batch_norm, says):
    def asked(kind):
        return Experiment("x", neuron=Neuron(kind, parameters), model=Model(batch_norm=batch_norm))

    assert any(says in doubt and "Layer(neuron=dietjax.SigmaDelta(" in doubt for doubt in doubts(asked("sigma_delta")))
    assert not any("sigma_delta" in doubt for doubt in doubts(asked("alif")))


def test_every_setting_of_the_tables_is_there_and_tried():
    named = {*IDLE, *(f"{phase}.{name}" for phase in ("ann", "snn") for name in IDLE_OF_A_PHASE)}
    for name in named:
        operator.attrgetter(name)(PLAIN)
    tried = {case[0].replace("ann.", "snn.") for case in CASES}
    assert {name.replace("ann.", "snn.") for name in named} == tried


def test_what_is_left_alone_is_doubted_nowhere():
    assert doubts(PLAIN) == doubts(TODAY) == []
    assert doubts(FULL) == ["conversion.percentile 99.0 does nothing: it needs conversion.method match or percentile",
                            *doubts(changed(FULL, "conversion.percentile", None))]


def test_a_phase_that_is_left_out_on_purpose_says_nothing_of_its_settings():
    scratch = Experiment("x", model=Model(batch_norm=True), ann=Phase(epochs=0, momentum=0.5, temperature=2.0))
    assert doubts(with_settings(scratch, {"ann_neuron.levels": 3, "conversion.timesteps": 7})) == []


def test_a_threshold_that_conversion_sets_is_doubted():
    asked = Experiment("x", neuron=Neuron(parameters=("threshold=0.5",)))
    assert doubts(asked)[0].startswith("threshold in neuron.parameters does nothing: thresholds are set by conversion")
    assert doubts(with_settings(asked, {"ann.epochs": 0, "model.batch_norm": True})) == []
