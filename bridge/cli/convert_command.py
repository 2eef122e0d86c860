"""`bridge convert`: the upload file of a DICOM ECG, with the proof that no sample changed."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import click

if TYPE_CHECKING:
    from bridge.domain.recording import MultiplexGroup
    from bridge.formats.ecg.proof import Form, Proof

_BIG = 32 * 1024 * 1024  # bytes of samples; below it the work is over before a bar is drawn
_ENDINGS = {".zip": "wfdb", ".edf": "edf"}


@click.command("convert")
@click.argument("source", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("target", metavar="OUT", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Replace OUT where it exists.")
def command(source: Path, target: Path, force: bool) -> None:
    """The upload file of a DICOM ECG: the rhythm in FILE as OUT, a WFDB record in a .zip or an EDF+ file in an .edf.

    Every sample is read back and compared; the lines printed are that proof. OUT holds no patient's name, number or
    time, and only you can read it. A form that would not be exact is refused, and the other one named.
    """
    from bridge.errors import BadInput, CannotScale
    from bridge.formats.dicom.reader import read_object
    from bridge.formats.ecg.proof import Form
    from bridge.formats.ecg.scaling import require_scalable

    ending = target.suffix.lower()
    if ending not in _ENDINGS:
        raise click.UsageError("OUT must end in .zip (a WFDB record) or .edf (EDF+).")
    if target.exists() and not force:
        raise click.UsageError(f"{target} exists; --force replaces it.")
    try:
        obj = read_object(source)
        group = obj.recording.rhythm()
        require_scalable(group)
        # The name must say nothing of the patient, and be the same for the same object
        record = "ecg_" + hashlib.sha256(obj.recording.sop_instance_uid.encode()).hexdigest()[:12]
        proof = _convert(source, group, target, record, Form(_ENDINGS[ending]))
    except (BadInput, CannotScale) as problem:
        raise click.ClickException(f"{source}: {problem.where or 'file'}: {problem}") from problem
    except OSError as fault:
        raise click.FileError(str(fault.filename or target), hint=fault.strerror) from fault
    for warning in obj.recording.warnings:
        click.echo(f"warning   {warning}", err=True)
    click.echo(_report(group, proof, len(obj.recording.groups)))


def _convert(source: Path, group: "MultiplexGroup", target: Path, record: str, form: "Form") -> "Proof":
    """Writes beside the target and renames: a failure leaves no half file and no lost one."""
    from bridge.errors import CannotScale
    from bridge.formats.ecg.upload import write_as

    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".convert-")  # mode 0600
    try:
        with os.fdopen(handle, "w+b") as out, source.open("rb") as payload:
            try:
                if group.length < _BIG:
                    proof = write_as(form, group, payload, out, record=record)
                else:
                    with click.progressbar(length=2 * group.length, label="writing and comparing") as bar:
                        watched = cast("BinaryIO", _Watched(payload, bar.update))
                        proof = write_as(form, group, watched, out, record=record)
            except CannotScale as problem:
                way_out = _other_form(group, payload, out, record, form)
                raise CannotScale(f"{problem}. {way_out}", where=problem.where) from problem
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink()
        raise
    return proof


def _other_form(group: "MultiplexGroup", payload: BinaryIO, out: BinaryIO, record: str, form: "Form") -> str:
    """What the other form makes of it, found by writing it: a word of advice that fails too is none."""
    from bridge.errors import CannotScale
    from bridge.formats.ecg.upload import NAMES, OTHER, write_as

    other = OTHER[form]
    (ending,) = (e for e, name in _ENDINGS.items() if name == other)
    try:
        proof = write_as(other, group, payload, out, record=record)
    except CannotScale as problem:
        return f"{NAMES[other]} ({ending}) cannot hold it exactly either: {problem}"
    how = f"to within {proof.deviation:f} µV" if proof.deviation else "exactly"
    return f"{NAMES[other]} holds it {how}: name OUT with {ending}"


class _Watched:
    """A payload that tells how much of it was read: once to write, once to compare."""

    def __init__(self, payload: BinaryIO, tell: Callable[[int], None]) -> None:
        self._payload = payload
        self._tell = tell

    def seek(self, offset: int) -> int:
        return self._payload.seek(offset)

    def readinto(self, block: memoryview) -> int:
        got: int = self._payload.readinto(block)  # type: ignore[attr-defined]  # every stream of io has it
        self._tell(got)
        return got


def _report(group: "MultiplexGroup", proof: "Proof", groups: int) -> str:
    from bridge.formats.ecg.proof import Form

    seconds = float(proof.samples / proof.rate)
    size = f"{proof.channels} channels x {proof.samples} samples at {proof.rate.normalize():f} Hz"
    lines = [
        f"group     {group.number} of {groups}, {group.originality.value}: {size}, {seconds:g} s",
        f"leads     {' '.join(c.lead for c in group.channels)}",
    ]
    if proof.form is Form.EDF:
        off = f"at most {proof.deviation:f} µV" if proof.deviation else "0 µV"
        lines += [
            f"file      EDF+, 16 bits, {proof.total_size} bytes",
            "proof     every value of the data records was decoded and equals the object's",
            f"scale     {off} off the object's, read back",
            f"samples   sha256 {proof.samples_sha256} in the object",
            f"file      sha256 {proof.sha256}",
        ]
    else:
        how = (
            "every byte of the signal file is the object's"
            if proof.identical
            else "every value of the signal file was decoded and equals the object's"
        )
        lines += [
            f"record    {proof.record}, WFDB format {proof.format}, {proof.total_size} bytes",
            f"proof     {how}",
            f"samples   sha256 {proof.samples_sha256} in the object",
            f"          sha256 {proof.dat_sha256} in {proof.record}.dat, read back",
            f"archive   sha256 {proof.sha256}",
        ]
    return "\n".join(lines)
