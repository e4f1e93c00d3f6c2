"""Moments of a run, in a process of its own: "ann train 50" (a line logged), "snn save 68" (a save begun), "wrote
summary.json" (a file written).
"""

from dietjax import checkpoint, files
from dietjax.run import metric_log


def just_after(moment, act):
    """Call `act` just after this moment."""
    def watched(original, name):
        def call(*arguments, **options):
            result = original(*arguments, **options)
            if name(*arguments) == moment:
                act()
            return result
        return call

    log, saver = metric_log.MetricLog, checkpoint.Checkpoints
    log.write = watched(log.write, lambda self, phase, split, step, values: f"{phase} {split} {step}")
    saver.save = watched(saver.save, lambda self, step, *_: f"{self.directory.name} save {step}")
    files.write_json = watched(files.write_json, lambda path, value: f"wrote {path.name}")
