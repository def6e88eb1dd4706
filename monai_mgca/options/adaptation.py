# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The options of cheap adaptation: which of them go together."""

from __future__ import annotations

from dataclasses import dataclass

from monai_mgca.options.option_values import option_value
from monai_mgca.utils.errors import OptionError

__all__ = ["Adaptation", "check_adaptation"]


@dataclass(frozen=True)
class Adaptation:
    """What of each tower is trained, and which weights are kept.

    Attributes:
        locked: for each tower that is locked, "image" or "report", how many of its last groups are trained all the
            same.
        lora_rank: of the adapters; 0: none.
        lora_towers: "image", "report" or both, where there are adapters.
        ema_decay: of the moving average of the weights; 0: none.
        export_ema: whether the validation and the exports take the average.
    """

    locked: dict[str, int]
    lora_rank: int
    lora_towers: tuple[str, ...]
    ema_decay: float
    export_ema: bool


def check_adaptation(
    lock_image: bool | str = False,
    unlocked_image_groups: int = 0,
    lock_report: bool | str = False,
    unlocked_report_groups: int = 0,
    freeze_report_encoder: bool | str = False,
    lora_rank: int = 0,
    lora_towers: str = "image,report",
    ema_decay: float = 0,
    export_ema: bool | str = True,
) -> Adaptation:
    """Refuse options of cheap adaptation that contradict each other.

    Args:
        lock_image: keep the image encoder as it is, but for its last groups.
        unlocked_image_groups: how many of those.
        lock_report: the same of the report encoder.
        unlocked_report_groups: the same.
        freeze_report_encoder: keep all of the report encoder as it is; ``lock_report`` without unlocked groups.
        lora_rank: of adapters beside frozen weights; 0: none.
        lora_towers: which towers get them: names separated by commas.
        ema_decay: of the weights' moving average, such as 0.999; 0: none.
        export_ema: whether exports take the average.

    Returns:
        What is to be done.

    Raises:
        OptionError: naming the options and how to mend them.

    Example::

        print(check_adaptation(lora_rank=8, lora_towers="image").lora_towers)  # ('image',)
    """
    given = {name: option_value(name, value) for name, value in locals().items()}
    locks = {"image": given["lock_image"], "report": given["lock_report"]}
    groups = {tower: given[f"unlocked_{tower}_groups"] for tower in locks}
    if given["freeze_report_encoder"] and groups["report"]:
        raise OptionError(
            "freeze_report_encoder keeps all of the report encoder as it is, and unlocked_report_groups trains its "
            "last groups: give lock_report true in place of freeze_report_encoder true."
        )
    for tower, locked in locks.items():
        if groups[tower] and not locked:
            raise OptionError(f"unlocked_{tower}_groups has no effect without a lock: give lock_{tower} true too.")
    towers = tuple(given["lora_towers"].split(",")) if given["lora_rank"] else ()
    for tower in towers:
        _refuse_frozen(tower, towers, locks[tower], tower == "report" and given["freeze_report_encoder"])
    if given["ema_decay"] == 1:
        raise OptionError("ema_decay is 1, with which the average never moves: give less, such as 0.999; 0: none.")
    return Adaptation(
        {tower: groups[tower] for tower, locked in locks.items() if locked},
        given["lora_rank"],
        towers,
        given["ema_decay"],
        given["export_ema"],
    )


def _refuse_frozen(tower: str, towers: tuple[str, ...], locked: bool, frozen: bool) -> None:
    """Refuse adapters in a tower that is to stay as it is."""
    if not (locked or frozen):
        return
    option = f"lock_{tower}" if locked else "freeze_report_encoder"
    others = ",".join(other for other in towers if other != tower)
    mend = f"give lora_towers {others}" if others else "set lora_rank to 0"
    raise OptionError(
        f"{option} keeps the {tower} encoder as it is, and lora_rank adapts it, for lora_towers names it: {mend}, or "
        f"{option} false."
    )
