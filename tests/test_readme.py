"""The README's code runs as it stands."""

import pathlib
import re

import numpy as np

README = pathlib.Path(__file__).parents[1] / "README.md"


def test_readme_code_runs_and_shows_what_it_says(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    assert len(blocks) == 2
    names = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), names)
    assert names["record"]["logits"].shape == (4, 5, 10)
    assert next(iter(names["record"]["spike_rate"])) == "conv1"
    assert np.isfinite(float(names["gradient"].leak)) and float(names["gradient"].threshold) < 0
