"""How far a neuron's parameters are shared: one for a layer, one for each channel, one for each neuron."""

from typing import Literal, get_args

from ...errors import unknown

Sharing = Literal["layer", "channel", "neuron"]


def check_sharing(sharing: str) -> None:
    """Refuse what is none of them."""
    if sharing not in get_args(Sharing):
        raise unknown("sharing", str(sharing), get_args(Sharing))


def shared_shape(sharing: Sharing, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of a parameter of neurons of shape N."""
    return {"layer": (), "channel": tuple(shape[-1:]), "neuron": tuple(shape)}[sharing]
