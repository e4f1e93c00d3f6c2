"""Laws of dietjax.config: a config survives JSON, and what no run could use is refused by name before any work."""

import dataclasses
import json
import subprocess
import sys

import pytest

from dietjax.config import (
    Conversion,
    Data,
    Experiment,
    Model,
    Neuron,
    Phase,
    check,
    doubts,
    from_dict,
    read_stored,
    resolved,
)
from dietjax.errors import InputError

FULL = Experiment(
    name="λ", timesteps=20, seed=3, data=Data("cifar10", "/data", 4, True, 224, True, 3),
    model=Model("ResNet20", (10, 20), 0.1, 0.3, True, 0.5), encoder="poisson",
    neuron=Neuron(0.5, "channel", "zero", "arctan", ("leak", "threshold"), 0.25),
    ann=Phase(1, 2, "sgd", 0.5, 0.8, 0.25, 3), conversion=Conversion("spikenorm", 99.0, 7, 8, 0.7), snn=Phase(2),
    chunk=5, truncate=True, dtype="bfloat16")

TODAY = Experiment(
    name="today", data=Data("cifar10", crop_padding=4, flip=True, cutout=8),
    ann=Phase(40, 256, "sgd", 0.1, 0.9, 5e-4, schedule="one_cycle", warmup_epochs=8.5, nesterov=True, clip_norm=5.0,
              ema_decay=0.999, conv_dropout=0.0, classifier_dropout=0.1, label_smoothing=0.1),
    snn=Phase(12, 256, "adamw", 1e-4, schedule="steps", milestones=(6, 9.5), step_factor=0.1, tet_weight=0.5,
              tet_lambda=0.05, tet_mean=0.5, distillation=0.9, temperature=4.0))


def changed(experiment, field, value):
    """The experiment with another value at a dotted path."""
    first, _, rest = field.partition(".")
    value = changed(getattr(experiment, first), rest, value) if rest else value
    return dataclasses.replace(experiment, **{first: value})


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


def test_a_config_stored_before_match_keeps_its_conversion(tmp_path):
    """Batch norm and all: it says percentile, and its membranes started at 0."""
    stored = dataclasses.asdict(Experiment("x", model=Model(batch_norm=True)))
    stored["conversion"] = {"method": "percentile", "percentile": 99.7, "images": 512, "timesteps": 100, "scale": None}
    del stored["neuron"]["initial_membrane"]
    (tmp_path / "config.json").write_text(json.dumps(stored))
    meant = resolved(read_stored(tmp_path / "config.json"))
    assert (meant.conversion, meant.neuron.initial_membrane) == (Conversion("percentile", 99.7, 512, 100, 0.2), 0.0)


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
    ("ann.learning_rate", float("nan")), ("ann.learning_rate", float("inf")),
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
    ("model", "VGG9"), ("neuron.freeze", "leak"), ("neuron.freeze", ("leaks",)), ("model.classifier", 16),
    ("truncate", 1), ("neuron.initial_membrane", "half"), ("data.dir", 3), ("data.skip_corrupt", 1),
    ("data.image_size", 22.5),
])
def test_a_value_of_another_type_is_refused_by_name(field, value):
    with pytest.raises(InputError, match=f"^{field} must be .*, got "):
        check(changed(FULL, field, value))


# ---- training of today


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
    ("snn.optimizer", "muon", "snn.optimizer muon keeps the norm of kernels .* it is folded here: take adam or sgd"),
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
    ("dietjax, dietjax.run.recipe, dietjax.train.loop", ("tensorflow_datasets", "array_record", "cv2", "matplotlib")),
])
def test_import_loads_no_more_than_it_needs(module, absent):
    code = f"import sys, {module}; print([m for m in {absent} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
