"""What the peers on PyTorch share: our weights in their layout, and the timed steps around a module."""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import numpy as np
import torch

from ...errors import InputError
from ...interop.torch import to_state_dict
from ..amortise import Repeatable
from .chain import Stage
from .peer import Peer, PeerLayer


def device() -> torch.device:
    """Where JAX runs too."""
    backend = jax.default_backend()
    if backend == "cpu":
        return torch.device("cpu")
    if backend != "gpu":
        raise InputError(f"JAX runs on {backend!r} here, peers on torch only on CPU or GPU; set JAX_PLATFORMS=cpu")
    if not torch.cuda.is_available():
        raise InputError(f"JAX has a GPU, torch {torch.__version__} does not; install a CUDA build of torch, "
                         "or set JAX_PLATFORMS=cpu")
    return torch.device("cuda")


def synapses(net, stages: Sequence[Stage], variables, dtype: str, conv=torch.nn.Conv2d,
             linear=torch.nn.Linear) -> list[torch.nn.Module]:
    """Our kernels as convolutions (OIHW) and linear modules ([out, in], CHW flatten), from input to output."""
    weights = [w for key, w in to_state_dict(net, variables).items() if key.endswith(".weight")]
    return [_with_weight(conv(w.shape[1], w.shape[0], w.shape[2], stage.connection.stride, w.shape[2] // 2, bias=False)
                         if w.ndim == 4 else linear(w.shape[1], w.shape[0], bias=False), w, dtype)
            for stage, w in zip(stages, weights, strict=True)]


def dense(kernel: np.ndarray, dtype: str, linear=torch.nn.Linear) -> torch.nn.Module:
    """A linear module from our kernel [in, out]."""
    return _with_weight(linear(*kernel.shape, bias=False), kernel.T, dtype)


def scalar(value: float, dtype: str) -> torch.Tensor:
    """A leak or threshold on the device; libraries that make their own round it to float32."""
    return torch.tensor(value, dtype=getattr(torch, dtype), device=device())


def to_nchw(images: np.ndarray, dtype: str) -> torch.Tensor:
    """[B, H, W, C] -> [B, C, H, W] on the device."""
    return _tensor(np.moveaxis(images, -1, 1), dtype)


def peer(name: str, mode: str, exact: bool, exact_gradients: bool, model: torch.nn.Module,
         weighted: Sequence[torch.nn.Module], images: np.ndarray, labels: np.ndarray, dtype: str) -> Peer:
    """A network as a peer.

    Args:
        name, mode, exact, exact_gradients: as in `Peer`.
        model: images [B, C, H, W] -> logits [B, K].
        weighted: its synapses from input to output, whose gradients are returned.
        images: [B, H, W, C].
        labels: [B].
        dtype: of the images.
    """
    batch, classes = to_nchw(images, dtype), torch.tensor(labels, dtype=torch.int64, device=device())

    @torch.no_grad()
    def logits(images):
        return model(to_nchw(images, dtype)).cpu().numpy()

    @torch.inference_mode()
    def infer(count=1):
        for _ in range(count):
            model(batch)
        _wait()

    return Peer(name=name, mode=mode, exact=exact, exact_gradients=exact_gradients, logits=logits,
                inference=Repeatable(infer, lambda count: partial(infer, count)),
                training_step=_training_step(
                    model, weighted, lambda: torch.nn.functional.cross_entropy(model(batch), classes)))


def peer_layer(name: str, mode: str, exact: bool, exact_gradients: bool, model: torch.nn.Module,
               synapse: torch.nn.Module, inputs: np.ndarray, dtype: str) -> PeerLayer:
    """A layer as a peer; `model` maps inputs [T, B, in] to spikes [T, B, out]."""
    inputs = _tensor(inputs, dtype)
    return PeerLayer(name=name, mode=mode, exact=exact, exact_gradients=exact_gradients,
                     training_step=_training_step(model, [synapse], lambda: model(inputs).sum()))


def wide(dtype: str) -> torch.dtype:
    """In which currents are summed over time, as ours: at least float32."""
    return torch.promote_types(getattr(torch, dtype), torch.float32)


def _training_step(model, weighted, forward: Callable[[], torch.Tensor]):
    def step():
        loss = forward()
        loss.backward()
        _wait()
        gradients = [module.weight.grad for module in weighted]
        model.zero_grad(set_to_none=True)  # they are the caller's, as ours are
        return loss.item(), gradients

    def steps(count):
        for _ in range(count):
            forward().backward()
            model.zero_grad(set_to_none=True)
        _wait()

    return Repeatable(step, lambda count: partial(steps, count))


def _wait():
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _tensor(array, dtype):
    return torch.tensor(np.ascontiguousarray(array), dtype=getattr(torch, dtype), device=device())


def _with_weight(module, weight, dtype):
    module = module.to(device(), getattr(torch, dtype))
    with torch.no_grad():
        module.weight.copy_(torch.tensor(np.ascontiguousarray(weight)))
    return module
