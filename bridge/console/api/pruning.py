"""`bridge db prune` beside a running service: on the control socket alone, some seconds' worth at a time."""

import asyncio
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Body
from pydantic import BaseModel, ConfigDict, Field

from bridge.console.access.visitor import ADMIN, OfVisitor
from bridge.console.desk import OfDesk
from bridge.dispatch.acts.pruning import SLICE, Pruning

router = APIRouter(dependencies=[ADMIN], include_in_schema=False)
PATH = "/api/store/prune"


class Wanted(BaseModel):
    """From behind which message on; `dry`: what would go is counted, and stays."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    after: Annotated[int, Field(ge=0, le=10**18)] = 0
    dry: bool = False


@router.post(PATH)
async def pruned(desk: OfDesk, visitor: OfVisitor, wanted: Annotated[Wanted, Body()]) -> dict[str, Any]:
    """What went, or would go, and up to when what goes."""
    pruning = Pruning(desk.store, desk.payloads, desk.settings.retention, desk.clock)
    if wanted.dry:
        done = await pruning.would(wanted.after, seconds=SLICE)
    else:  # a caller that goes away does not take the slice with it: what went is noted
        done = await asyncio.shield(pruning.some(wanted.after, by=visitor.name, seconds=SLICE))
        desk.changes.tell()
    return {**asdict(done), "upto": pruning.edges()}
