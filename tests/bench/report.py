"""The table that the benchmark prints: each line as soon as it is known."""


def row(what: str, figure: str, bar: str = "", reached: str = "") -> None:
    """One line: what was measured, the figure with its ratio, the bar, and whether it is reached."""
    print(f"{what:<52} {figure:<66} {bar:<34} {reached}".rstrip(), flush=True)


def verdict(*pairs: tuple[float, float], most: bool = False) -> str:
    """Whether every figure reaches its bar; `most`: the bar is the most that it may be."""
    ok = all(value <= bar if most else value >= bar for value, bar in pairs)
    return "reached" if ok else "NOT REACHED"
