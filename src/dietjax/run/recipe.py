"""DIET-SNN's three phases as one resumable run: train the ANN, convert it, fine-tune the SNN; then say what came out.
Or one phase: an SNN trained from scratch (`Experiment.from_scratch`).

A run's folder holds process.json (who runs it, see `lock`), config.json, data.json, checkpoints/{ann,snn},
metrics.jsonl, tensorboard/, converted.json, and when all is done recorded.npz, summary.json and report.html. The same
command again goes on where it stopped.
"""

import contextlib
import dataclasses
import functools
import pathlib
import time

from .. import config, convert, files
from ..analysis import activity
from ..checkpoint import Checkpoints
from ..config import Experiment
from ..parallel import processes
from ..parallel.preemption import stopping
from ..train.batches import Teacher
from ..train.evaluate import Evaluator
from ..train.loop import fit
from ..train.reporter import Reporter
from . import assemble, data_info, folder, status
from .console import Console
from .lock import Lock
from .metric_log import MetricLog
from .summary import neuron_means, parse, record, summarise


def run(experiment: Experiment, workdir: pathlib.Path, console: Console) -> dict:
    """Run or resume an experiment to its end.

    Args:
        experiment: what to do.
        workdir: the run's folder; made, or one that holds this same experiment.
        console: where progress goes.

    Returns:
        The summary, as in summary.json.

    Raises:
        InputError: what cannot run, a folder that holds something else, or one in which another process runs.
        Stopped: a signal came.
    """
    check_folder = functools.partial(folder.check, experiment, workdir, assemble.check_names)
    with stopping(functools.partial(_saved, workdir)), contextlib.ExitStack() as held:
        with processes.raise_on_all():
            config.check(experiment)
            check_folder()  # before anything is loaded, so that a typing mistake costs no time
            lock = held.enter_context(Lock(workdir, console.say, takes=processes.is_main()))
            check_folder()  # another run may have come and gone meanwhile
        return _run(experiment, workdir, console, lock)


def _saved(workdir):
    """What a signal outside the loops over steps leaves."""
    saved = status.last_checkpoint(workdir)
    if saved is None:
        return "nothing is saved yet; the same command begins again"
    return f"{saved[0]} is saved at step {saved[1]}; the same command goes on from there"


def _run(experiment, workdir, console, lock):
    """What `run` does in a folder that is this process's alone."""
    start = time.perf_counter()
    dataset, plans = _prepare(experiment, workdir, console)
    finished = processes.broadcast(files.read_text(workdir / "summary.json"))
    if finished:
        summary = parse(finished, workdir / "summary.json", ("ann", "converted", "snn", "energy"))
        console.say(f"{workdir} is finished: nothing to do")
        return summary
    lock.keep()
    ann, snn = plans.get("ann"), plans["snn"]
    measure_ann, measure_snn = Evaluator(ann) if ann else None, Evaluator(snn)
    tested_ann, ann_seconds, teacher = None, 0.0, None
    log = MetricLog(workdir, writes=processes.is_main())
    try:
        variables = assemble.initial_variables(experiment, (ann or snn).net, dataset)
        if ann:
            ann_variables, ann_seconds = _train(ann, variables, measure_ann, workdir, log, console)
            variables = assemble.convert_ann(experiment, ann.net, ann_variables, snn.net, dataset)
            began = _measure_converted(experiment, variables, measure_snn, workdir, log, console)
            teacher = Teacher(ann.net, ann_variables) if experiment.snn.distillation else None
        else:
            if not snn.net.batch_norm:  # thresholds are balanced on these weights
                variables = assemble.convert_ann(experiment, snn.net, variables, snn.net, dataset)
                variables = convert.unit_thresholds(snn.net, variables)
            began = _agreed_means(variables)
        variables, snn_seconds = _train(snn, variables, measure_snn, workdir, log, console, teacher)
    finally:
        log.close()
    console.say("evaluating")
    if ann:
        tested_ann, _ = measure_ann.whole(ann_variables)
    net, variables = assemble.without_batch_norm(snn.net, variables)
    if net is not snn.net:
        measure_snn = Evaluator(dataclasses.replace(snn, net=net))
    tested_snn, answers = measure_snn.whole(variables)
    if processes.is_main():
        record(experiment, dataset, workdir, net, variables, answers)
    summary = summarise(experiment, dataset, net, variables, tested_ann, began, tested_snn)
    for phase, seconds in (("ann", ann_seconds), ("snn", snn_seconds)):
        if summary[phase]:
            summary[phase]["seconds"] = seconds
    summary["seconds"] = ann_seconds + snn_seconds
    # what surrounded the training in earlier sessions of a resumed run has left no trace
    summary["seconds_in_all"] = max(summary["seconds"], time.perf_counter() - start)
    if processes.is_main():
        files.write_json(workdir / "summary.json", summary)
    return summary


def _prepare(experiment, workdir, console):
    """(The data, the plans of the phases), once all processes agree on them; the folder is claimed."""
    for sentence in config.doubts(experiment):
        console.say(f"warning: {sentence}")
    processes.check_agreement(folder.settings(experiment))
    with processes.raise_on_all():
        dataset = assemble.open_data(experiment.data, experiment.timesteps)
        plans = assemble.make_plans(experiment, dataset)
    processes.check_agreement({
        "training images": dataset.train.num_examples, "test images": dataset.test.num_examples,
        "classes": dataset.class_names, "mean": dataset.mean, "standard deviation": dataset.std,
        "image shape": dataset.image_shape})
    with processes.raise_on_all():
        folder.claim(experiment, workdir)
        if processes.is_main():
            data_info.keep(dataset, workdir)
    folder.check_shared(workdir)
    return dataset, plans


def _train(plan, variables, evaluator, workdir, log, console, teacher=None):
    """(The variables after a phase, its seconds)."""
    def record_line(split, step, values):
        log.write(plan.name, split, step, values)
        if split == "test":
            console.epoch(plan.name, values)

    with (console.phase(plan.name) as advance,
          Checkpoints(workdir / "checkpoints" / plan.name) as checkpoints):
        reporter = Reporter(plan, functools.partial(log.begin, plan.name), record_line, advance,
                            functools.partial(console.warn, plan.name))
        return fit(plan, variables, evaluator, checkpoints, reporter, teacher)


def _measure_converted(experiment, variables, evaluator, workdir, log, console):
    """What converted.json holds. Converting is deterministic given the ANN, so a resumed run repeats it instead of
    keeping a checkpoint of it, and every process computes it for itself; here they check that they agree.
    """
    means = _agreed_means(variables)
    path = workdir / "converted.json"
    measured = processes.broadcast(files.read_text(path))
    if measured:
        return parse(measured, path, ("accuracy",)) | means
    tested, _ = evaluator.whole(variables)
    log.begin("converted", -1)  # what a killed run logged without finishing
    found = activity.find(tested["spike_rate"], experiment.timesteps)
    warnings = {"warnings": [finding.sentence for finding in found]} if found else {}
    log.write("converted", "test", 0, tested | warnings)
    console.epoch("converted", tested)
    for finding in found:
        console.warn("converted", finding.sentence)
    converted = {**tested, **means}
    if processes.is_main():
        files.write_json(path, converted)
    return converted


def _agreed_means(variables):
    """`neuron_means` of an SNN before its training, which every process computes for itself."""
    means = neuron_means(variables)
    processes.check_agreement({f"initial {field}": value for field, value in means.items()})
    return means
