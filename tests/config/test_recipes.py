"""Laws of config: what settings of training go together, with an ANN and without."""

import dataclasses
import json

import pytest
from configs import FULL, TODAY, changed

from dietjax.config import Data, Experiment, Model, Phase, check, read_stored, resolved
from dietjax.errors import InputError


@pytest.mark.parametrize("field, value, limit", [
    ("data.cutout", -1, ">= 0"), ("ann.warmup_epochs", -0.5, ">= 0"), ("ann.clip_norm", 0.0, "> 0"),
    ("ann.clip_norm", float("inf"), "> 0"), ("ann.ema_decay", 1.0, r"in \[0, 1\)"),
    ("snn.ema_decay", -0.1, r"in \[0, 1\)"),
    ("ann.conv_dropout", 1.0, r"in \[0, 1\)"), ("snn.classifier_dropout", -0.1, r"in \[0, 1\)"),
    ("ann.label_smoothing", 1.0, r"in \[0, 1\)"), ("snn.tet_weight", 1.1, r"in \[0, 1\]"),
    ("snn.tet_lambda", float("nan"), r"in \[0, 1\]"), ("snn.tet_mean", float("inf"), "finite"),
    ("snn.distillation", -0.1, r"in \[0, 1\]"), ("snn.temperature", 0.0, "> 0"), ("snn.step_factor", 0.0, "> 0"),
    ("snn.milestones", (0.0, 3.0), "> 0"),
])
def test_a_recipe_out_of_range_is_refused_by_name(field, value, limit):
    with pytest.raises(InputError, match=rf"^{field} must be {limit}, got "):
        check(changed(TODAY, field, value))


@pytest.mark.parametrize("field, value, says", [
    ("ann.warmup_epochs", 40, "ann.warmup_epochs reaches epoch 40, ann.epochs is 40: a schedule longer than the run"),
    ("ann.epochs", 8, "ann.warmup_epochs reaches epoch 8.5, ann.epochs is 8: a schedule longer than the run"),
    ("snn.milestones", (13.5, 3), "snn.milestones reaches epoch 13.5, snn.epochs is 12: a schedule longer"),
    ("ann.warmup_epochs", 0, "ann.schedule one_cycle needs warm-up: set ann.warmup_epochs above 0"),
    ("ann.schedule", "cosine", "ann.schedule cosine has no warm-up: set ann.warmup_epochs to 0, or take one_cycle"),
    ("snn.milestones", (), "set both, or neither .schedule is steps, milestones are ..."),
    ("snn.schedule", "constant", "snn.milestones are the epochs after which schedule steps falls"),
    ("snn.optimizer", "muon", "snn.optimizer muon keeps the norm of .* conversion folds it: take snn.optimizer adam"),
    ("snn.nesterov", True, "snn.nesterov is sgd's, and snn.optimizer is adamw"),
    ("snn.tet_weight", 0.0, "snn.tet_lambda is a share of TET's loss, and snn.tet_weight is 0"),
    ("ann.tet_weight", 0.5, "ann.tet_weight must be 0: an ANN has one timestep; set snn.tet_weight"),
    ("ann.distillation", 0.5, "ann.distillation must be 0: the ANN is whom the SNN learns from; set snn.distillation"),
    ("ann.epochs", 0, "snn.distillation learns from the run's own ANN, and ann.epochs is 0: train one"),
    ("snn.schedule", "onecycle", "unknown snn.schedule 'onecycle'; did you mean 'one_cycle'"),
    ("snn.milestones", 5, "snn.milestones must be tuple"),
])
def test_settings_that_do_not_go_together_are_refused_with_a_remedy(field, value, says):
    with pytest.raises(InputError, match=says):
        check(changed(TODAY, field, value))


SMALL = Experiment(
    name="small", data=Data("cifar10", crop_padding=2, flip=True, crop_fill="reflect", flip_alternates=True),
    model=Model("Compact8", batch_norm=True, norm_scale=False, whiten=True),
    ann=Phase(12, 500, "muon", 0.15, 0.6, schedule="linear", adam_learning_rate=0.01))


@pytest.mark.parametrize("field, value, says", [
    (None, None, None),
    ("data.flip", False, "data.flip_alternates says how images are flipped, and data.flip is False: set both"),
    ("model.batch_norm", False, "ann.optimizer muon keeps the norm of kernels .* needs batch norm .* set model.ba"),
    ("ann.weight_decay", 5e-4, "ann.weight_decay must be 0 with muon, which keeps the norm of kernels as it is"),
    ("ann.adam_learning_rate", 0.0, "ann.adam_learning_rate must be > 0, got 0.0"),
    ("data.crop_fill", "mirror", "unknown data.crop_fill 'mirror'"),
])
def test_a_small_fast_recipe_is_whole(field, value, says):
    if field is None:
        check(SMALL)
    else:
        with pytest.raises(InputError, match=says):
            check(changed(SMALL, field, value))


# ---- from scratch

SCRATCH = Experiment("scratch", timesteps=4, model=Model(batch_norm=True), ann=Phase(epochs=0))


@pytest.mark.parametrize("changes", [
    {}, {"chunk": 4}, {"model.batch_norm": False}, {"model.batch_norm": False, "chunk": 1},
    {"model.batch_norm": False, "conversion.method": "spikenorm"}, {"conversion.method": "match"},  # not used
    {"ann.schedule": "one_cycle", "ann.warmup_epochs": 5.0},  # nor is this
    {"model.batch_norm": False, "ann.optimizer": "muon"}, {"snn.optimizer": "muon"},
])
def test_what_a_run_without_an_ann_can_be_asked_for(changes):
    experiment = SCRATCH
    for field, value in changes.items():
        experiment = changed(experiment, field, value)
    check(experiment)
    assert experiment.from_scratch and not TODAY.from_scratch


@pytest.mark.parametrize("changes, says", [
    ({"snn.distillation": 0.5}, "snn.distillation learns from the run's own ANN, and ann.epochs is 0: train one"),
    ({"chunk": 2}, "batch norm trains with the SNN and needs every timestep at once, and chunk is 2: set chunk"),
    ({"model.batch_norm": False, "conversion.method": "match"},
     "match takes thresholds from the ANN's activations, and ann.epochs is 0: set conversion.method to percentile or"),
    ({"model.batch_norm": False, "conversion.method": "max"}, "conversion.method max takes thresholds from the ANN's"),
    ({"snn.epochs": 0}, "snn.epochs must be > 0, got 0"),
    ({"model.batch_norm": False, "snn.optimizer": "muon"}, "needs batch norm .* set model.batch_norm, or take snn.o"),
])
def test_what_would_need_an_ann_is_refused_with_a_remedy(changes, says):
    experiment = SCRATCH
    for field, value in changes.items():
        experiment = changed(experiment, field, value)
    with pytest.raises(InputError, match=says):
        check(experiment)


@pytest.mark.parametrize("batch_norm, kind, method, membrane", [
    (True, "relu", None, 0.0), (False, "relu", "percentile", 0.0), (False, "qcfs", "percentile", 0.0)])
def test_what_none_means_without_an_ann(batch_norm, kind, method, membrane):
    """Nothing is converted: with batch norm no threshold is balanced either, and membranes start at 0."""
    found = resolved(changed(changed(SCRATCH, "model.batch_norm", batch_norm), "ann_neuron.kind", kind))
    assert (found.conversion.method, found.neuron.initial_membrane) == (method, membrane)
    asked = changed(SCRATCH, "conversion.method", "match")
    assert resolved(asked).neuron.initial_membrane == 0 and resolved(asked).conversion == asked.conversion


def test_a_run_stored_before_these_settings_is_read_with_the_papers(tmp_path):
    stored = dataclasses.asdict(FULL)
    before = [field.name for field in dataclasses.fields(Phase)][:8]
    assert before[-1] == "accumulate"
    stored |= {phase: {name: stored[phase][name] for name in before} for phase in ("ann", "snn")}
    for name in ("cutout", "crop_fill", "flip_alternates"):
        del stored["data"][name]
    for name in ("norm_scale", "whiten"):
        del stored["model"][name]
    (tmp_path / "config.json").write_text(json.dumps(stored))
    assert read_stored(tmp_path / "config.json") == FULL
