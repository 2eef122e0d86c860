"""What may stay of an answer when its message is pruned: that it was given, and the ids of the tasks."""

import re

_IDS = re.compile(rb"task=[0-9]{1,20}(,[0-9]{1,20})*")


def bare(answer: bytes) -> bytes:
    """MSH and MSA of an answer of ours; of MSA-3 no more than the ids of tasks. A message of these two is whole (HL7
    v2.5.1 §2.9.2.1, §4.4.2: what follows is optional), and neither says whose order it was.
    """
    segments = answer.split(b"\r")
    msh = segments[0]
    separator = msh[3:4]
    msa = next((s for s in segments[1:] if s.startswith(b"MSA" + separator)), b"")
    fields = msa.split(separator)[:4]
    if len(fields) == 4 and not _IDS.fullmatch(fields[3]):
        del fields[3]
    return b"".join(segment + b"\r" for segment in (msh, separator.join(fields)) if segment)
