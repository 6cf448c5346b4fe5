"""Nesterov's Adam as MXNet computes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim.optimizer import Optimizer, ParamsT


class SharedNadam(Optimizer):
    """Nadam whose product of momenta is one for the whole optimiser, multiplied once per array and step.

    With some hundred arrays the product is 0 within the first step, so both of its corrections vanish at once;
    torch.optim.NAdam keeps one product per array and agrees after some ten steps.

    Args:
        params: as for every optimiser.
        lr: learning rate.
        betas: decays of the mean and the mean square.
        eps: added to the root.
        schedule_decay: of the momentum's warm-up.
        weight_decay: L2 penalty, added to the gradient.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 2.5e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        schedule_decay: float = 0.004,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "schedule_decay": schedule_decay,
            "weight_decay": weight_decay,
        }
        super().__init__(params, defaults)

    @property
    def momentum_product(self) -> float:
        """Return the shared product of momenta so far."""
        return float(self.param_groups[0].get("momentum_product", 1.0))

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every array that has a gradient; return the closure's loss, if one is given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        product = self.momentum_product
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    product = self._update(parameter, group, product)
        self.param_groups[0]["momentum_product"] = product  # in a group, so that checkpoints keep it
        return loss

    def _update(self, parameter: torch.Tensor, group: dict[str, Any], product: float) -> float:
        """Update one array; return the product of momenta with this array's factor."""
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        step, (beta1, beta2), decay = state["step"], group["betas"], group["schedule_decay"]
        gradient = parameter.grad
        assert gradient is not None
        if group["weight_decay"]:
            gradient = gradient + group["weight_decay"] * parameter
        now = beta1 * (1 - 0.5 * 0.96 ** (step * decay))
        following = beta1 * (1 - 0.5 * 0.96 ** ((step + 1) * decay))
        product *= now
        state["mean"].lerp_(gradient, 1 - beta1)
        state["square"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        mean = gradient * ((1 - now) / (1 - product)) + state["mean"] * (following / (1 - product * following))
        root = (state["square"] / (1 - beta2**step)).sqrt_().add_(group["eps"])
        parameter.addcdiv_(mean, root, value=-group["lr"])
        return product
