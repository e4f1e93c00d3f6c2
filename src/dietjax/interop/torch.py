"""The state_dict of the authors' PyTorch code (nitin-rathi/DIET-SNN), both ways, as NumPy arrays. Needs no torch.

    features.{i}.weight, classifier.{i}.weight, threshold.t{i}, leak.l{i}                               VGG
    pre_process.{i}.weight, layer{1..4}.{b}.residual.{0,3}.weight, layer{s}.{b}.identity.0.weight, ...  ResNet

Their arrays are NCHW, OIHW and OI; ours NHWC, HWIO and IO. A classifier's first matrix follows a CHW flatten there and
a HWC flatten here, so its rows are permuted.
"""

import re
import warnings
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..core.neurons import IF, LIF, LIFParams, ReLU
from ..errors import InputError
from ..models import Network, build
from ..models.wiring import Connection


def from_state_dict(name: str, state_dict: Mapping[str, Any], *, num_classes: int,
                    image_shape: tuple[int, int, int], **options: Any) -> tuple[Network, dict]:
    """A network and its variables from the authors' state_dict.

    Args:
        name: "VGG16", "ResNet20" ...
        state_dict: {name: array}; torch: `{k: v.numpy() for k, v in checkpoint["state_dict"].items()}`. A prefix
            "module." on every name (DataParallel) is taken off. Without any threshold or leak it is an ANN's.
        num_classes, image_shape, **options: as for `dietjax.models.build`.

    Returns:
        (net, variables), arrays in the state_dict's dtype.

    Raises:
        InputError: entries are missing, unknown or of another shape; all of them are named.
    """
    if state_dict and all(key.startswith("module.") for key in state_dict):
        state_dict = {key.removeprefix("module."): value for key, value in state_dict.items()}
    spiking = any(key.startswith(("threshold.", "leak.")) for key in state_dict)
    net = build(name, num_classes, image_shape, **{"neuron": LIF() if spiking else ReLU(), **options})
    _check_neuron(net)
    wanted = _entries(net)
    _check_entries(name, wanted, state_dict)
    arrays = {key: _to_jax(np.asarray(state_dict[key])) for key in wanted}
    params: dict[str, Any] = {}
    for key, connection in wanted.items():
        layer = params.setdefault(connection.layer, {})
        if key.startswith("threshold."):
            leak = arrays[key.replace("threshold.t", "leak.l")]
            layer["neuron"] = LIFParams(leak.reshape(()), arrays[key].reshape(()))
        elif key.endswith(".bias"):
            layer["bias"] = arrays[key]
        elif key.endswith(".weight"):
            target = layer.setdefault("shortcut", {}) if connection.name != connection.layer else layer
            target["kernel"] = _our_kernel(arrays[key], connection)
    return net, {"params": params}


def to_state_dict(net: Network, tree: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The inverse of `from_state_dict`, for parameters or for anything of their structure, such as gradients.

    Args:
        net: a VGG or ResNet without batch norm (`convert.fold_batch_norm` folds it).
        tree: variables, or their "params".
    """
    _check_neuron(net)
    params = tree.get("params", tree)
    found = {}
    for key, connection in _entries(net).items():
        layer = params[connection.layer]
        if key.startswith(("threshold.", "leak.")):
            value = layer["neuron"].threshold if key.startswith("threshold.") else layer["neuron"].leak
            if np.ndim(value):
                raise InputError(f"{connection.name}: the authors' code has one leak and one threshold per layer, this "
                                 f"network {np.shape(value)}; build it with sharing='layer'")
            found[key] = np.asarray(value)
        elif key.endswith(".bias"):
            found[key] = np.asarray(layer["bias"])
        else:
            weights = layer["shortcut"] if connection.name != connection.layer else layer
            found[key] = _their_kernel(np.asarray(weights["kernel"]), connection)
    return found


def _entries(net: Network) -> dict[str, Connection]:
    """Their entry -> the connection it belongs to, in their order."""
    if net.batch_norm:
        raise InputError("the authors' networks have no batch norm; fold it first (dietjax.convert.fold_batch_norm)")
    wiring = net.connections()
    recurrent = [c.layer for c in wiring if c.recurrent]
    if recurrent:
        raise InputError(f"the authors' networks have no recurrent layers, this one has {', '.join(recurrent)}")
    averaged = [layer.name for layer in net.layers if layer.pool == "global"]
    if averaged:
        raise InputError(f"the authors' networks flatten their last map, this one averages it, after {averaged[0]}")
    pooled = [c.name for c in wiring if c.pooled]
    if pooled:
        raise InputError(f"the authors' networks pool spikes, this one pools currents, of {', '.join(pooled)}")
    mains = [c for c in wiring if c.name == c.layer]
    stem = "pre_process" if mains[0].name == "stem1" else "features"
    names, indices = {}, {}
    convs = fcs = blocks = 0
    for c in mains:
        if block := re.fullmatch(r"stage(\d+)_block(\d+)_conv(\d+)", c.name):
            stage, number, conv = map(int, block.groups())
            names[c.name] = f"layer{stage}.{number - 1}.residual.{3 * (conv - 1)}"
            names[f"{c.name}_shortcut"] = f"layer{stage}.{number - 1}.identity.0"
            indices[c.name] = 3 * convs + blocks
            blocks += 1
        elif re.fullmatch(r"(conv|stem)\d+", c.name):
            names[c.name], indices[c.name] = f"{stem}.{3 * convs}", 3 * convs
            convs += 1
        elif re.fullmatch(r"fc\d+", c.name):
            names[c.name], indices[c.name] = f"classifier.{3 * fcs}", 3 * (convs + fcs) + blocks
            fcs += 1
        else:
            raise InputError(f"layer {c.name!r} has no name in the authors' code, which knows VGG and ResNet only")
    entries = {f"{names[c.name]}.weight": c for c in wiring}
    if net.bias:
        entries |= {f"{names[c.name]}.bias": c for c in mains}
    if isinstance(net.neuron, LIF):
        entries |= {f"threshold.t{indices[c.name]}": c for c in mains[:-1]}
        entries |= {f"leak.l{indices[c.name]}": c for c in mains[:-1]}
    return entries


def _check_neuron(net):
    if isinstance(net.neuron, IF) and not isinstance(net.neuron, LIF):
        raise InputError(f"the authors' code has a leak beside every threshold and does not scale the input by it, "
                         f"{net.neuron} is another neuron; use LIF (an IF is LIF(leak=1))")
    if getattr(net.neuron, "initial_membrane", 0):
        raise InputError(f"membranes of the authors' code start at 0, those of {net.neuron} do not; use "
                         "initial_membrane=0")


def _check_entries(name, wanted, state_dict):
    def shape(key, c):
        if key.startswith(("threshold.", "leak.")):
            return ()
        if key.endswith(".bias"):
            return c.kernel[-1:]
        return tuple(reversed(c.kernel)) if len(c.kernel) == 2 else (c.kernel[3], c.kernel[2], *c.kernel[:2])

    complaints = []
    if missing := [key for key in wanted if key not in state_dict]:
        complaints.append(f"missing {', '.join(missing)}")
    if extra := [key for key in state_dict if key not in wanted]:
        complaints.append(f"not part of it {', '.join(extra)}")
    for key, connection in wanted.items():
        if key in state_dict:
            should, is_ = shape(key, connection), np.shape(state_dict[key])
            if is_ != should and not (should == () and is_ == (1,)):
                complaints.append(f"{key} has shape {is_}, should have {should}")
    if complaints:
        raise InputError(f"state_dict does not fit {name}: {'; '.join(complaints)}. Check the network's name, "
                         "num_classes, image_shape and classifier widths.")


def _to_jax(array):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converted = jnp.asarray(array)
    if converted.dtype != array.dtype and array.ndim:
        warnings.warn(f"{array.dtype} arrays become {converted.dtype}; jax_enable_x64 keeps them", stacklevel=3)
    return converted


def _our_kernel(weight, c):
    if weight.ndim == 4:
        return weight.transpose(2, 3, 1, 0)  # OIHW -> HWIO
    if len(c.in_shape) == 3:
        h, w, channels = c.in_shape
        weight = weight.reshape(-1, channels, h, w).transpose(0, 2, 3, 1).reshape(weight.shape)
    return weight.T


def _their_kernel(kernel, c):
    if kernel.ndim == 4:
        return kernel.transpose(3, 2, 0, 1)
    weight = kernel.T
    if len(c.in_shape) == 3:
        h, w, channels = c.in_shape
        weight = weight.reshape(-1, h, w, channels).transpose(0, 3, 1, 2).reshape(weight.shape)
    return weight
