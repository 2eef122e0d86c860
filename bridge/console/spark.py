"""A small graph of the last hour: a bar a minute, as SVG that any page can hold."""

from collections.abc import Sequence

from markupsafe import Markup

HEIGHT = 20


def spark(minutes: Sequence[int], label: str) -> Markup:
    """Bars of equal width, the highest of them as high as the graph; its text says the sum and the peak.

    `minutes` are counts, the oldest first. Colours are the style sheet's.
    """
    top = max(minutes, default=0)
    bars = "".join(
        f'<rect x="{at}" y="{HEIGHT - height}" width="0.8" height="{height}"/>'
        for at, count in enumerate(minutes)
        if (height := round(count / top * HEIGHT, 1) if top else 0)
    )
    text = f"{label}: {sum(minutes)} in the last hour, at most {top} a minute"
    return Markup(
        '<svg class="spark" role="img" viewBox="0 0 {} {}" preserveAspectRatio="none"><title>{}</title>'
        '<line x1="0" y1="{}" x2="{}" y2="{}"/>{}</svg>'
    ).format(len(minutes), HEIGHT, text, HEIGHT, len(minutes), HEIGHT, Markup(bars))  # noqa: S704  numbers of ours
