# SPDX-License-Identifier: Apache-2.0
"""The picture of a front: PSNR against latency."""

from __future__ import annotations

import matplotlib

from lmb_quant.bench.pareto import front_of
from lmb_quant.errors import LMBError
from lmb_quant.page import STYLE, add_legend, label_point, log_axis, make_figure, to_svg

from .report import BINARY, HOST, REAL, FrontReport

_LOOK = {
    BINARY: ("binary, in this engine", "#d62728", "o"),
    HOST: ("float, bf16, int8 by PyTorch and torchao", "#1f77b4", "s"),
    REAL: ("real, in this engine", "#7f7f7f", "^"),
}


def draw_front(report: FrontReport) -> str:
    """Draws the networks with a PSNR, a step line for the best of each kind, as SVG.

    Raises:
        LMBError: If no network has a PSNR.
    """
    choices = report.choices()
    if not choices:
        raise LMBError(f"suite {report.suite}: a picture needs the PSNR of its networks. Give --scores.")
    height, width = report.size
    threads = "one thread" if report.threads == 1 else f"{report.threads} threads"
    titles = {}
    with matplotlib.rc_context(STYLE):
        figure, axes = make_figure(
            f"latency of {height} x {width} pixels on {threads} of {report.machine.cpu}, ms",
            f"PSNR on {report.test_set}, dB",
            height=5.0,
        )
        dearest = max(choice.cost for choice in choices)
        overall = front_of(choices)
        for kind, (words, color, marker) in _LOOK.items():
            own = [choice for choice in choices if choice.kind == kind]
            if not own:
                continue
            front = front_of(own)
            line = [(each.cost, each.gain) for each in front] + [(dearest, front[-1].gain)]
            axes.plot(*zip(*line, strict=True), drawstyle="steps-post", color=color, linewidth=1.2, zorder=1)
            for choice in own:
                gid = f"{kind}-{choice.label}".replace(" ", "-")
                label = words if choice is own[0] else None
                axes.scatter(choice.cost, choice.gain, s=22, gid=gid, color=color, marker=marker, label=label, zorder=2)
                titles[gid] = f"{choice.label}, {words}: {choice.gain:.2f} dB, {choice.cost:.1f} ms"
                if choice in overall or (kind == HOST and choice in front):
                    label_point(axes, choice.label, choice.cost, choice.gain, below=choice not in overall)
        axes.margins(y=0.15)  # room for the labels
        log_axis(axes, [choice.cost for choice in choices])
        add_legend(figure, axes)
        return to_svg(figure, titles)
