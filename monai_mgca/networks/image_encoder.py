# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Image encoders that give one embedding and a token for each patch: ViT and ResNet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

import torch
import torch.nn.functional as F
from monai.networks.nets import ViT
from monai.networks.nets.resnet import ResNet
from monai.utils import ensure_tuple_rep, look_up_option
from torch import nn
from torch.utils.checkpoint import checkpoint

from monai_mgca.networks.attention import cls_attention, cls_scores

__all__ = ["ImageEncoder", "ImageFeatures", "ResNetImageEncoder", "ViTImageEncoder"]

# along an axis of a volume, for its heat maps
FEWEST_PLACES = 8

# TorchScript reads the types of a named tuple's fields only where they are no strings, which "annotations" makes of all
ImageFeatures = NamedTuple(  # noqa: UP014
    "ImageFeatures",
    [("pooled", torch.Tensor), ("tokens", torch.Tensor), ("attention", Optional[torch.Tensor])],  # noqa: UP045
)
"""What an image encoder gives: pooled (B, C), tokens (B, P, C'), attention (B, P) or None where there is none."""


class ImageEncoder(nn.Module):
    """What the networks ask of an image encoder besides its call, which gives :class:`ImageFeatures`.

    One's own needs no more than that call; see :func:`monai_mgca.networks.register_image_encoder`.

    Args:
        out_channels: C of the pooled features.
        token_channels: C' of the tokens.
    """

    def __init__(self, out_channels: int, token_channels: int) -> None:
        super().__init__()
        self.out_channels, self.token_channels = out_channels, token_channels

    def local_features(self, image: torch.Tensor) -> torch.Tensor:
        """(B, C'', ...) features between the image and the pooled features, each still of its own place."""
        raise NotImplementedError(
            f"{type(self).__name__} has no local_features and pool_features, which grounding by attribution needs: "
            "ground by --method token, or write both."
        )

    def pool_features(self, features: torch.Tensor) -> torch.Tensor:
        """The pooled (B, C) that the rest of the encoder makes of :meth:`local_features`."""
        raise NotImplementedError


class ViTImageEncoder(ImageEncoder):
    """MONAI's vision transformer, in 2D or 3D: [CLS] after the last norm, all patches, [CLS]'s attention to them.

    Equal to timm's ViT and DeiT of the same size. Every block has fused attention; of the last block the [CLS] row of
    the attention alone is computed besides. Every parameter gets a gradient, so DDP needs no search for unused ones.

    Args:
        image_size: height and width (and depth) of the images in pixels.
        in_channels: 1 for radiographs.
        patch_size: edge of a patch in pixels.
        hidden_size: numbers of a token; this and the next three are ViT-B's by default.
        mlp_dim: hidden size of each block's perceptron.
        num_layers: blocks.
        num_heads: heads of each block's attention.
        spatial_dims: 2 or 3.
        checkpointing: recompute the blocks in the backward pass, which saves memory for a third more time.
        cls_position: hold [CLS] and its position as two parameters, as timm does. Of MONAI's one, which is their sum,
            the features are the same, but AdamW moves a sum of two twice as far. :func:`load_encoder` and
            :func:`load_network` move either into the other.

    Example::

        encoder = ViTImageEncoder(image_size=64, patch_size=16, hidden_size=48, mlp_dim=96, num_layers=2, num_heads=3)
        print(encoder(torch.rand(2, 1, 64, 64)).tokens.shape)
    """

    def __init__(
        self,
        image_size: Sequence[int] | int = 224,
        in_channels: int = 1,
        patch_size: Sequence[int] | int = 16,
        hidden_size: int = 768,
        mlp_dim: int = 3072,
        num_layers: int = 12,
        num_heads: int = 12,
        spatial_dims: int = 2,
        checkpointing: bool = False,
        cls_position: bool = False,
    ) -> None:
        super().__init__(hidden_size, hidden_size)
        backbone: Any = ViT(  # Any: MONAI does not declare the parts of its blocks
            in_channels=in_channels,
            img_size=image_size,
            patch_size=patch_size,
            hidden_size=hidden_size,
            mlp_dim=mlp_dim,
            num_layers=num_layers,
            num_heads=num_heads,
            spatial_dims=spatial_dims,
            classification=True,
            qkv_bias=True,
            post_activation=None,
        )
        self.backbone = backbone
        del backbone.classification_head
        for block in backbone.blocks:
            block.attn.use_flash_attention = True
            block.norm_cross_attn = nn.Identity()
        for module in backbone.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = 1e-6
        nn.init.trunc_normal_(backbone.cls_token, std=0.02)
        position = nn.Parameter(torch.empty(1, 1, hidden_size)) if cls_position else None
        backbone.register_parameter("cls_position", position)
        if position is not None:
            nn.init.trunc_normal_(position, std=0.02)
        self.image_size = ensure_tuple_rep(image_size, spatial_dims)
        self.checkpointing = checkpointing

    def _attention(self, x: torch.Tensor) -> torch.Tensor:
        block = self.backbone.blocks[-1]
        x, attn = block.norm1(x), block.attn
        if not torch.jit.is_scripting():  # noqa: SIM102  TorchScript leaves out what is below this alone
            if hasattr(attn.qkv, "base_layer"):  # with an adapter, which its weight is without
                adapted = attn.qkv(x).chunk(3, dim=-1)
                return cls_attention(adapted[0][:, :1], adapted[1], attn.num_heads)[:, 1:]
        weight, bias = attn.qkv.weight.chunk(3), attn.qkv.bias.chunk(3)
        query, key = F.linear(x[:, :1], weight[0], bias[0]), F.linear(x, weight[1], bias[1])
        if torch.jit.is_scripting():  # which knows no context managers but torch's own
            return cls_scores(query.float(), key.float(), attn.num_heads).softmax(dim=-1).mean(dim=1)[:, 1:]
        return cls_attention(query, key, attn.num_heads)[:, 1:]

    def _check_size(self, image: torch.Tensor) -> None:
        if tuple(image.shape[2:]) != self.image_size:
            raise ValueError(f"This ViT is for images of {self.image_size}, got {tuple(image.shape[2:])}: resize them.")

    def _embed(self, image: torch.Tensor) -> torch.Tensor:
        if not torch.jit.is_scripting():
            self._check_size(image)
        x = self.backbone.patch_embedding(image)
        token, position = self.backbone.cls_token, self.backbone.cls_position
        if position is not None:
            token = token + position
        return torch.cat((token.expand(x.shape[0], -1, -1), x), dim=1)

    def _run(self, block: nn.Module, x: torch.Tensor) -> torch.Tensor:
        recompute = self.checkpointing and self.training and block is not self.backbone.blocks[-1]
        output: torch.Tensor = checkpoint(block, x, use_reentrant=False) if recompute else block(x)
        return output

    def forward(self, image: torch.Tensor) -> ImageFeatures:
        """
        Args:
            image: (B, in_channels, H, W[, D]) of ``image_size``.

        Raises:
            ValueError: when the images have another size.
        """
        x = last = self._embed(image)
        for block in self.backbone.blocks:
            last = x  # in the end what goes into the last block
            if torch.jit.is_scripting():  # noqa: SIM108  TorchScript knows no checkpoints, and compiles both of a ternary
                x = block(x)
            else:
                x = self._run(block, x)
        with torch.no_grad():
            attention = self._attention(last)
        x = self.backbone.norm(x)
        return ImageFeatures(x[:, 0], x[:, 1:], attention)

    def local_features(self, image: torch.Tensor) -> torch.Tensor:
        """(B, C, 1 + P) features of [CLS] and every patch after half of the blocks: still of their own place."""
        x = self._embed(image)
        for block in self.backbone.blocks[: len(self.backbone.blocks) // 2]:
            x = block(x)
        return x.transpose(1, 2)

    def pool_features(self, features: torch.Tensor) -> torch.Tensor:
        """What the other half of the blocks makes of :meth:`local_features`: the pooled (B, C) of :meth:`forward`."""
        x = features.transpose(1, 2)
        for block in self.backbone.blocks[len(self.backbone.blocks) // 2 :]:
            x = block(x)
        pooled: torch.Tensor = self.backbone.norm(x)[:, 0]
        return pooled


class ResNetImageEncoder(ImageEncoder):
    """MONAI's residual network, in 2D or 3D: pooled features of the last stage, tokens of the stage before.

    Equal to torchvision's ResNet of the same depth, with its parameter names. MONAI's own ResNet-18 and 34 differ from
    it by a shortcut without parameters that stops the gradient, so the network is built from MONAI's general ResNet.

    Args:
        block: "basic" or "bottleneck".
        layers: blocks in each of the four stages; the defaults are ResNet-50.
        width: channels of the first stage.
        in_channels: 1 for radiographs.
        spatial_dims: 2 or 3.
        checkpointing: recompute the stages in the backward pass, which saves memory for a third more time. Batch
            norm's running statistics then move twice a step.
        official_resize: as in the official code, resize every image to 299 x 299 pixels (bilinear, corners aligned)
            before the first layer, also those of 224; its published weights need it. Pooled features and the 361
            tokens are of that image, and cover the whole of the one given; :meth:`stages` are of the given one.

    Raises:
        ValueError: for an unknown ``block``, or ``official_resize`` of volumes.

    Example::

        encoder = ResNetImageEncoder("basic", (1, 1, 1, 1), width=16)
        print(encoder(torch.rand(2, 1, 64, 64)).tokens.shape)
    """

    def __init__(
        self,
        block: str = "bottleneck",
        layers: Sequence[int] = (3, 4, 6, 3),
        width: int = 64,
        in_channels: int = 1,
        spatial_dims: int = 2,
        checkpointing: bool = False,
        official_resize: bool = False,
    ) -> None:
        if official_resize and spatial_dims != 2:
            raise ValueError(f"official_resize is of images, got spatial_dims={spatial_dims}.")
        expansion = look_up_option(block, {"basic": 1, "bottleneck": 4})
        super().__init__(8 * width * expansion, 4 * width * expansion)
        self.backbone = ResNet(
            block=block,
            layers=list(layers),
            block_inplanes=[width, 2 * width, 4 * width, 8 * width],
            spatial_dims=spatial_dims,
            n_input_channels=in_channels,
            conv1_t_stride=2,
            feed_forward=False,
            bias_downsample=False,
        )
        self.checkpointing, self.official_resize = checkpointing, official_resize

    def _resize(self, image: torch.Tensor) -> torch.Tensor:
        if not self.official_resize:
            return image
        return F.interpolate(image, [299, 299], mode="bilinear", align_corners=True)

    def forward(self, image: torch.Tensor) -> ImageFeatures:
        """
        Args:
            image: (B, in_channels, H, W[, D]).
        """
        stages = self.stages(self._resize(image))
        pooled, tokens = stages[-1].flatten(2).mean(2), stages[-2].flatten(2).transpose(1, 2)
        if not torch.jit.is_scripting():  # noqa: SIM102  TorchScript leaves out what is below this alone
            if torch.jit.is_tracing():  # what is traced gives tensors alone: one of no tokens
                return ImageFeatures(pooled, tokens, tokens.new_zeros(len(tokens), 0))
        return ImageFeatures(pooled, tokens, None)

    def local_features(self, image: torch.Tensor) -> torch.Tensor:
        """(B, C', h, w[, d]) features that the tokens are: still of their own place.

        Of a small volume they are of the earlier stage that has eight places or more along each axis, where there is
        one: a token of 16 voxels of 8 mm is half a chest wide.
        """
        stages = self.stages(self._resize(image))[1:4]
        fine = [one for one in stages if image.ndim == 4 or min(one.shape[2:]) >= FEWEST_PLACES]
        return fine[-1] if fine else stages[0]

    def pool_features(self, features: torch.Tensor) -> torch.Tensor:
        """What the later stages make of :meth:`local_features`: the pooled (B, C) of :meth:`forward`."""
        net, narrower = self.backbone, self.out_channels // features.shape[1]  # a stage has twice the channels
        for halvings, stage in ((8, net.layer2), (4, net.layer3), (2, net.layer4)):
            features = stage(features) if narrower >= halvings else features
        return features.flatten(2).mean(2)

    def stages(self, image: torch.Tensor) -> list[torch.Tensor]:
        """The features at 1/2, 1/4, 1/8, 1/16 and 1/32 of the image's size, as a decoder or a pyramid takes them.

        Args:
            image: (B, in_channels, H, W[, D]).
        """
        net = self.backbone
        first = net.act(net.bn1(net.conv1(image)))
        x = net.maxpool(first)
        if not torch.jit.is_scripting():  # TorchScript knows neither checkpoints nor a loop over modules
            features = [first]
            for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
                x = checkpoint(stage, x, use_reentrant=False) if self.checkpointing and self.training else stage(x)
                features.append(x)
            return features
        second = net.layer1(x)
        third = net.layer2(second)
        fourth = net.layer3(third)
        return [first, second, third, fourth, net.layer4(fourth)]
