"""Laws of plan: after which steps an epoch ends and a state is saved."""

import numpy as np
import pytest

from dietjax import models
from dietjax.config import Phase
from dietjax.data import Dataset, Split
from dietjax.parallel.mesh import make_mesh
from dietjax.train.plan import Plan
from dietjax.train.state import TimeSchedule


def plan(examples, **phase):
    split = Split(np.zeros((examples, 8, 8, 1), np.uint8), np.zeros(examples, np.int32))
    net = models.build("VGG4", 2, (8, 8, 1), classifier=(16,))
    return Plan("ann", net, Dataset("none", split, split, ("a", "b"), (0.5,), (0.5,)), Phase(**phase), TimeSchedule(),
                make_mesh())


@pytest.mark.parametrize("checkpoint_every, saved", [(1, [3, 5, 8]), (2, [5, 8]), (9, [8])])
def test_an_epoch_ends_with_the_batch_that_reads_its_last_example(checkpoint_every, saved):
    """10 examples in batches of 4: 12, 20 and 32 have been read after 3, 5 and 8 batches."""
    ann = plan(10, epochs=3, batch_size=4, checkpoint_every=checkpoint_every)
    steps = range(1, ann.total_steps + 1)
    assert ann.total_steps == 8
    assert [done for done in steps if ann.ends_epoch(done)] == [3, 5, 8]
    assert [done for done in steps if ann.is_saved(done)] == saved
    assert [ann.epoch(done) for done in (0, 5, 8)] == [0, 2.0, 3.2]
