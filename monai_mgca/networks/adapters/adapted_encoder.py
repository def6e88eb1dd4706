# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What turns another library's network into an image encoder: its sizes are measured, not looked up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from logging import getLogger
from typing import Any, NamedTuple

import torch
from monai.utils import ensure_tuple_rep
from torch import nn

from monai_mgca.networks.image_encoder import ImageEncoder, ImageFeatures
from monai_mgca.networks.last_attention import LastAttention

__all__ = ["AdaptedImageEncoder", "NetworkOutput", "last_of_each_size"]

logger = getLogger(__name__)


class NetworkOutput(NamedTuple):
    """What an adapter reads from a network.

    Attributes:
        pooled: (B, C).
        tokens: (B, P, C') of a network of one scale, the patches alone; None of one with stages.
        stages: (B, C'', h, w[, d]) features of falling resolution; none of a network of one scale.
    """

    pooled: torch.Tensor
    tokens: torch.Tensor | None
    stages: Sequence[torch.Tensor]


def last_of_each_size(stages: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The last of the features of each resolution, finest first.

    Args:
        stages: (B, C, h, w[, d]) each, as the network computes them.
    """
    return list({tuple(stage.shape[2:]): stage for stage in stages}.values())


class AdaptedImageEncoder(ImageEncoder):
    """Base of the adapters: a network of timm, transformers or MONAI, called by its own library.

    A network with stages gives its last one pooled, and as tokens the stage before, as our ResNets do: at 224 pixels
    196 tokens, not 49. A vision transformer gives its patches, and no registers. One with a [CLS] or a pooling query
    gives the attention of that to the patches, others none. What has no part in all this is frozen: DDP waits for the
    gradient of whatever is trainable.

    Args:
        backbone: the network.
        image_size: pixels of the images it is built for.
        in_channels: channels of the images.
        spatial_dims: 2 or 3.
        patch_size: pixels of the edge of a patch, of a network of one scale.
        has_query: whether its last attention begins with a [CLS] or a pooling query.

    Attributes:
        strides: pixels between neighbors of each stage; of one scale, the patch size alone.
        stage_channels: channels of each stage; none of one scale.
    """

    def __init__(
        self,
        backbone: nn.Module,
        image_size: Sequence[int] | int,
        in_channels: int = 1,
        spatial_dims: int = 2,
        patch_size: int | None = None,
        has_query: bool = False,
    ) -> None:
        super().__init__(0, 0)
        self.backbone = backbone
        self.image_size = ensure_tuple_rep(image_size, spatial_dims)
        self.in_channels = in_channels
        self.patch_size = patch_size
        self.has_query = has_query
        self._check_size(self.image_size)
        self.strides: tuple[int, ...] = ()
        self.stage_channels: tuple[int, ...] = ()
        self._measure(torch.zeros(1, in_channels, *self.image_size))

    def read(self, image: torch.Tensor) -> NetworkOutput:
        """Call the network as its library does.

        Args:
            image: (B, in_channels, H, W[, D]).
        """
        raise NotImplementedError

    def middle(self) -> nn.Module:
        """The part whose input still has its own places and whose output leads to the pooled features."""
        raise NotImplementedError

    def forward(self, image: torch.Tensor) -> ImageFeatures:
        """
        Args:
            image: (B, in_channels, H, W[, D]) of ``image_size``, or of any size that the network takes.

        Raises:
            ValueError: when the size is no multiple of the patch.
        """
        silent = torch.jit.is_tracing()
        if not silent:
            self._check_size(image.shape[2:])
        if not self.has_query or silent:  # what is traced gives tensors alone: one of no tokens
            pooled, tokens = self._pooled_and_tokens(self.read(image))
            return ImageFeatures(pooled, tokens, tokens.new_zeros(len(tokens), 0) if silent else None)
        with LastAttention() as seen:
            output = self.read(image)
        pooled, tokens = self._pooled_and_tokens(output)
        return ImageFeatures(pooled, tokens, seen.first_row()[:, -tokens.shape[1] :])

    def stages(self, image: torch.Tensor) -> list[torch.Tensor]:
        """The features at each of ``strides``, of a network that has stages.

        Args:
            image: (B, in_channels, H, W[, D]).
        """
        return list(self.read(image).stages)

    def token_grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """How many tokens stand along each side of an image.

        Args:
            size: of the image in pixels.
        """
        stride = self.strides[max(len(self.strides) - 2, 0)]
        return tuple(side // stride for side in size)

    def local_features(self, image: torch.Tensor) -> torch.Tensor:
        """(B, C'', ...) features that go into the middle of the network, one column a place."""
        held, _ = self._read_with_middle(image)
        return held.movedim(-1, 1) if self._channels_last else held

    def pool_features(self, features: torch.Tensor) -> torch.Tensor:
        """The pooled (B, C) that the rest of the network makes of the :meth:`local_features` of ``image_size``."""
        put = features.movedim(1, -1) if self._channels_last else features
        blank = features.new_zeros(len(features), self.in_channels, *self.image_size)
        with self._at_middle(lambda _: put):
            return self.read(blank).pooled

    @contextmanager
    def _at_middle(self, function: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
        def hook(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            return (function(inputs[0]), *inputs[1:])

        handle = self.middle().register_forward_pre_hook(hook)
        try:
            yield
        finally:
            handle.remove()

    def _check_size(self, size: Sequence[int]) -> None:
        patch = self.patch_size
        if patch is not None and any(side % patch for side in size):
            lower = max(size) // patch * patch
            sizes = " or ".join(str(side) for side in (lower, lower + patch) if side)
            raise ValueError(
                f"The image encoder's patches are {patch} pixels wide, and images of {tuple(size)} pixels are no "
                f"multiple of that: set image_size to {sizes}."
            )

    def _pooled_and_tokens(self, output: NetworkOutput) -> tuple[torch.Tensor, torch.Tensor]:
        if output.tokens is not None:
            return output.pooled, output.tokens
        before_last = output.stages[max(len(output.stages) - 2, 0)]
        return output.pooled, before_last.flatten(2).transpose(1, 2)

    @torch.enable_grad()
    def _measure(self, image: torch.Tensor) -> None:
        """Call the network once, and take its sizes and what it does not use from that."""
        training = self.training
        self.eval()
        try:
            middle, output = self._read_with_middle(image)
        except (RuntimeError, TypeError, AssertionError) as error:
            raise ValueError(
                f"{type(self.backbone).__name__} cannot take images of {tuple(image.shape[1:])}: {error}. Give another "
                "image_size, such as that of its weights, or an encoder that needs nothing but the image."
            ) from error
        pooled, tokens = self._pooled_and_tokens(output)
        self.out_channels, self.token_channels = pooled.shape[1], tokens.shape[2]
        self.stage_channels = tuple(stage.shape[1] for stage in output.stages)
        if output.stages:
            self.strides = tuple(image.shape[2] // stage.shape[2] for stage in output.stages)
        else:
            self.strides = (self.patch_size or round(image.shape[2] / tokens.shape[1] ** (1 / (image.ndim - 2))),)
        unused = self._freeze_unreached(pooled.sum() + tokens.sum())
        if unused:
            logger.info(f"Not trained, for the features do not depend on them: {', '.join(unused)}.")
        self.train(training)
        # in a sequence, and in the maps of some networks, channels stand last
        self._channels_last = middle.ndim == 3 or (
            middle.shape[1] not in self.stage_channels and middle.shape[-1] in self.stage_channels
        )

    @torch.enable_grad()
    def freeze_behind_tokens(self) -> list[str]:
        """Freeze what the tokens do not depend on, for a loss that reads nothing else; the names of it."""
        image = torch.zeros(1, self.in_channels, *self.image_size, device=next(self.parameters()).device)
        training = self.training
        self.eval()
        _, tokens = self._pooled_and_tokens(self.read(image))
        self.train(training)
        return self._freeze_unreached(tokens.sum())

    def _freeze_unreached(self, value: torch.Tensor) -> list[str]:
        if torch.is_inference_mode_enabled():  # what is made in it is never trained
            return []
        trained = {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}
        given = torch.autograd.grad(value, list(trained.values()), allow_unused=True)
        unused = [name for name, gradient in zip(trained, given, strict=True) if gradient is None]
        for name in unused:
            trained[name].requires_grad_(False)
        return unused

    def _read_with_middle(self, image: torch.Tensor) -> tuple[torch.Tensor, NetworkOutput]:
        """What goes into the middle of the network, as the network holds it, and what comes out."""
        held: list[torch.Tensor] = []

        def keep(features: torch.Tensor) -> torch.Tensor:
            held.append(features)
            return features

        with self._at_middle(keep):
            output = self.read(image)
        return held[-1], output
