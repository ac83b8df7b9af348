"""Inception-v3 (Szegedy et al. 2016, arXiv 1512.00567)."""

from __future__ import annotations

from collections.abc import Callable

from keras import KerasTensor, Model, layers

from cxrmodels.networks._blocks import Size, conv_bn, film_input, network, pooled_head

_Conv = tuple[int, Size]


def _conv(
    x: KerasTensor, name: str, filters: int, kernel: Size, strides: int = 1, padding: str = "same"
) -> KerasTensor:
    return conv_bn(x, name, filters, kernel, strides=strides, padding=padding, scale=False)


def _chain(x: KerasTensor, name: str, convolutions: list[_Conv], *, shrink: bool = False) -> KerasTensor:
    """Convolutions in a row; with `shrink` the last one has stride 2 and no padding."""
    for number, (filters, kernel) in enumerate(convolutions, start=1):
        last = shrink and number == len(convolutions)
        x = _conv(x, f"{name}_{number}", filters, kernel, 2 if last else 1, "valid" if last else "same")
    return x


def _pool_branch(x: KerasTensor, name: str, filters: int) -> KerasTensor:
    x = layers.AveragePooling2D(3, strides=1, padding="same", name=f"{name}_pool")(x)
    return _conv(x, f"{name}_pool_conv", filters, 1)


def _join(name: str, branches: list[KerasTensor]) -> KerasTensor:
    return layers.Concatenate(name=name)(branches)


def _module_a(x: KerasTensor, name: str, pool_filters: int) -> KerasTensor:
    return _join(
        name,
        [
            _conv(x, f"{name}_1x1", 64, 1),
            _chain(x, f"{name}_5x5", [(48, 1), (64, 5)]),
            _chain(x, f"{name}_3x3dbl", [(64, 1), (96, 3), (96, 3)]),
            _pool_branch(x, name, pool_filters),
        ],
    )


def _reduction_a(x: KerasTensor, name: str) -> KerasTensor:
    return _join(
        name,
        [
            _chain(x, f"{name}_3x3", [(384, 3)], shrink=True),
            _chain(x, f"{name}_3x3dbl", [(64, 1), (96, 3), (96, 3)], shrink=True),
            layers.MaxPooling2D(3, strides=2, name=f"{name}_pool")(x),
        ],
    )


def _module_b(x: KerasTensor, name: str, narrow: int) -> KerasTensor:
    double: list[_Conv] = [(narrow, 1), (narrow, (7, 1)), (narrow, (1, 7)), (narrow, (7, 1)), (192, (1, 7))]
    return _join(
        name,
        [
            _conv(x, f"{name}_1x1", 192, 1),
            _chain(x, f"{name}_7x7", [(narrow, 1), (narrow, (1, 7)), (192, (7, 1))]),
            _chain(x, f"{name}_7x7dbl", double),
            _pool_branch(x, name, 192),
        ],
    )


def _reduction_b(x: KerasTensor, name: str) -> KerasTensor:
    return _join(
        name,
        [
            _chain(x, f"{name}_3x3", [(192, 1), (320, 3)], shrink=True),
            _chain(x, f"{name}_7x7x3", [(192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3)], shrink=True),
            layers.MaxPooling2D(3, strides=2, name=f"{name}_pool")(x),
        ],
    )


def _module_c(x: KerasTensor, name: str) -> KerasTensor:
    def fork(x: KerasTensor, name: str) -> KerasTensor:
        return _join(name, [_conv(x, f"{name}_1x3", 384, (1, 3)), _conv(x, f"{name}_3x1", 384, (3, 1))])

    return _join(
        name,
        [
            _conv(x, f"{name}_1x1", 320, 1),
            fork(_conv(x, f"{name}_3x3_1", 384, 1), f"{name}_3x3_fork"),
            fork(_chain(x, f"{name}_3x3dbl", [(448, 1), (384, 3)]), f"{name}_3x3dbl_fork"),
            _pool_branch(x, name, 192),
        ],
    )


def inception_v3(size: int, channels: int, outputs: int) -> Model:
    """Inception-v3, then global average pooling, dropout 0.5 and the logits.

    The body equals `keras.applications.InceptionV3(include_top=False)` weight for weight.

    Args:
        size: side of the film in pixels (here 224), at least 75.
        channels: 1 or 3.
        outputs: number of findings.
    """
    film = film_input(size, channels)
    x = _conv(film, "stem1", 32, 3, 2, "valid")
    x = _conv(x, "stem2", 32, 3, padding="valid")
    x = _conv(x, "stem3", 64, 3)
    x = layers.MaxPooling2D(3, strides=2, name="stem3_pool")(x)
    x = _conv(x, "stem4", 80, 1, padding="valid")
    x = _conv(x, "stem5", 192, 3, padding="valid")
    x = layers.MaxPooling2D(3, strides=2, name="stem5_pool")(x)
    modules: list[Callable[[KerasTensor, str], KerasTensor]] = [
        lambda x, name: _module_a(x, name, 32),
        lambda x, name: _module_a(x, name, 64),
        lambda x, name: _module_a(x, name, 64),
        _reduction_a,
        lambda x, name: _module_b(x, name, 128),
        lambda x, name: _module_b(x, name, 160),
        lambda x, name: _module_b(x, name, 160),
        lambda x, name: _module_b(x, name, 192),
        _reduction_b,
        _module_c,
        _module_c,
    ]
    for number, module in enumerate(modules):
        x = module(x, f"mixed{number}")
    return network(film, pooled_head(x, outputs, 0.5), "inception_v3")
