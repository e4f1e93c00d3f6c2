"""What every test runs under: warnings are errors, float64 only where a test asks for it."""

import fcntl
import json
import math
import os
import shutil
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_disk import mounted

CACHE = "JAX_COMPILATION_CACHE_DIR"
MIN_COMPILE_SECONDS = "0.1"  # below that reading takes as long as compiling
LONGEST = ["test_disturbed",
           "test_mesh", "test_sharded_run", "test_kernels", "test_recipe", "test_survival", "test_models", "test_bench",
           "test_hosts", "test_several_processes", "test_gpu_script", "test_convert", "test_train", "test_interop",
           "test_readme"]
GOLDEN = Path(__file__).parent / "golden" / "diet_snn_reference.json"


def pytest_configure(config):
    config.addinivalue_line("filterwarnings", "error")
    # Half an entry (its writer is still at it, or was killed): jax says so, and compiles as if there were none.
    config.addinivalue_line("filterwarnings", "ignore:Error reading persistent compilation cache entry:UserWarning")
    share_compilations(config)


@pytest.hookimpl(tryfirst=True)  # before -m picks
def pytest_collection_modifyitems(items):
    """The files that take longest first: begun last, one worker would end on them while the other has nothing to do."""
    thin_out(items)
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


def thin_out(items):
    """`@pytest.mark.thin(n)`: of a test of many cases, all but n spread over them are slow."""
    cases = {}
    for item in items:
        if item.get_closest_marker("thin"):
            cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for group in cases.values():
        quick = [item for item in group if not item.get_closest_marker("slow")]
        kept = group[0].get_closest_marker("thin").args[0]
        chosen = {round(i * (len(quick) - 1) / max(kept - 1, 1)) for i in range(kept)}
        for i, item in enumerate(quick):
            if i not in chosen:
                item.add_marker(pytest.mark.slow)


def share_compilations(config):
    """One cache of compiled programs for the workers of this run and for what they start, empty at its beginning.

    A program is compiled by whoever needs it first; tests that count compilations count traces, which no cache saves.
    """
    if CACHE not in os.environ:  # else we are a worker, or somebody wants to keep theirs between runs
        os.environ[CACHE] = tempfile.mkdtemp(prefix="dietjax-compiled-")
        config.add_cleanup(lambda: shutil.rmtree(os.environ.pop(CACHE), ignore_errors=True))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", MIN_COMPILE_SECONDS)
    jax.config.update("jax_compilation_cache_dir", os.environ[CACHE])
    jax.config.update("jax_persistent_cache_min_compile_time_secs",
                      float(os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"]))


@pytest.fixture
def x64():
    """float64 inside the test, as before after it."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def quick_compile():
    """The same programs with little of XLA's optimiser: random numbers compile in a fifth of the time on the CPU."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """(name, function of a folder) -> that folder, filled once in a run of pytest, by whichever worker is first."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def fill(name, make):
        with open(shared / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (shared / name).exists():  # what failed half way is no folder to share
                make(shared / f"{name}.partial")
                (shared / f"{name}.partial").rename(shared / name)
        return shared / name

    return fill


@pytest.fixture(scope="session")
def digits_folder(once):
    """Where tensorflow-datasets finds digits."""
    from dietjax import data

    return once("tfds", lambda folder: data.load("digits", folder))


@pytest.fixture(scope="session")
def finished_run(once, digits_folder):
    """The folder of a run of helpers/tiny_run.py that came to its end; for the tests that read it, which copy it."""
    import tiny_run

    def train(folder):
        folder.mkdir()
        (folder / "tiny.py").write_text(tiny_run.EXPERIMENT)
        with tiny_run.as_in_a_process(digits_folder):
            assert tiny_run.train(folder / "tiny.py", folder / "run") == 0

    return once("finished", train) / "run"


@pytest.fixture(scope="module")
def narrow_networks():
    """Runs in this process have few channels; in another `python narrow.py` is the command line with such networks."""
    import narrow

    from dietjax.run import assemble

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assemble, "networks", narrow.networks)
        yield


@pytest.fixture
def dietjax(capsys):
    """Runs a command: (exit status, stdout, stderr)."""
    from dietjax.cli import main as cli

    def run(*arguments):
        capsys.readouterr()
        try:
            status = cli.main([str(a) for a in arguments])
        except SystemExit as stopped:  # tyro's own
            status = stopped.code
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one MiB."""
    with mounted(tmp_path, "1m") as disk:
        yield disk


@pytest.fixture
def random_variables():
    """(net, seed) -> variables with He-normal weights: strong enough that every layer of a deep network spikes."""

    def make(net, seed=0, dtype=jnp.float32, bias=0.1):
        shapes = jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *net.image_shape), jnp.float32))
        rng = np.random.default_rng(seed)

        def leaf(path, x):
            name = getattr(path[-1], "key", getattr(path[-1], "name", None))
            neuron = net.neurons().get(path[1].key, net.neuron)
            drawn = rng.standard_normal(x.shape)
            value = {"kernel": lambda: drawn * math.sqrt(2 / math.prod(x.shape[:-1])), "bias": lambda: bias * drawn,
                     "scale": lambda: np.exp(0.3 * drawn), "mean": lambda: 0.2 * drawn, "var": lambda: np.exp(drawn),
                     "leak": lambda: np.full(x.shape, neuron.leak),
                     "threshold": lambda: np.full(x.shape, neuron.threshold)}[name]()
            return jnp.asarray(value, dtype)

        return jax.tree_util.tree_map_with_path(leaf, shapes)

    return make


@pytest.fixture(scope="session")
def golden():
    """Name -> a run of the authors' PyTorch code; "state_dict" and "images" (NHWC) rebuilt as golden/README says."""
    cases = {}
    for case in json.loads(GOLDEN.read_text()):
        rng = np.random.default_rng(case["seed"])
        weights = {}
        for name, shape in case["params"]:
            drawn = rng.standard_normal(shape).astype(np.float32) * np.float32(np.sqrt(2 / np.prod(shape[1:])))
            weights[name] = drawn.astype(np.float64)
        for key, threshold, leak in zip(case["threshold_keys"], case["thresholds"], case["leaks"], strict=True):
            weights |= {f"threshold.{key}": np.array(threshold), f"leak.l{key[1:]}": np.array(leak)}
        rng = np.random.default_rng(case["seed"] + 1)
        image = (1, 28, 28) if case["dataset"] == "MNIST" else (3, 32, 32)
        images = rng.standard_normal((case["batch"], *image)).astype(np.float32).astype(np.float64)
        case["state_dict"], case["images"] = weights, images.transpose(0, 2, 3, 1)
        assert rng.integers(0, 10, case["batch"]).tolist() == case["label"]
        cases[case["name"]] = case
    return cases
