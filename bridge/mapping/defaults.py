"""The rules that hold where a site says nothing: the chains of hl7.md §5 and dicom_ecg.md §3.4."""

from typing import Final, Literal

_Sources = dict[Literal["hl7", "dicom"], tuple[str, ...]]

PATIENT_ID: Final[_Sources] = {"hl7": ("PID-3", "PID-2", "PID-4"), "dicom": ("PatientID",)}
PATIENT_NAME: Final[_Sources] = {"hl7": ("PID-5",), "dicom": ("PatientName",)}
PATIENT_GENDER: Final[_Sources] = {"hl7": ("PID-8.1",), "dicom": ("PatientSex",)}
PATIENT_BIRTH_DATE: Final[_Sources] = {"hl7": ("PID-7.1",), "dicom": ("PatientBirthDate",)}
PATIENT_AGE: Final[_Sources] = {
    "hl7": ("OBX[3.1=30525-0]-5", "OBX[3.1=21612-7]-5"),
    "dicom": ("PatientAge",),
}
PATIENT_HEIGHT: Final[_Sources] = {
    "hl7": (
        "OBX[3.1=8302-2]-5",
        "OBX[3.1=3137-7]-5",
        "OBX[3.1=3138-5]-5",
        "OBX[3.1=8301-4]-5",
        "OBX[3.4=8302-2]-5",
        "OBX[3.2=Body Height]-5",
    ),
    "dicom": ("PatientSize",),
}
PATIENT_WEIGHT: Final[_Sources] = {
    "hl7": (
        "OBX[3.1=29463-7]-5",
        "OBX[3.1=3141-9]-5",
        "OBX[3.1=3142-7]-5",
        "OBX[3.1=8335-2]-5",
        "OBX[3.4=29463-7]-5",
        "OBX[3.2=Body Weight]-5",
    ),
    "dicom": ("PatientWeight",),
}
INVESTIGATION_ID: Final[_Sources] = {
    "hl7": ("IPC-1.1", "OBR-18.1", "ORC-3.1", "OBR-3.1", "ORC-2.1", "OBR-2.1"),
    "dicom": (
        "AccessionNumber",
        "RequestAttributesSequence.AccessionNumber",
        "RequestedProcedureID",
        "RequestAttributesSequence.RequestedProcedureID",
        "FillerOrderNumberImagingServiceRequest",
        "PlacerOrderNumberImagingServiceRequest",
    ),
}
DEVICE_ID: Final[_Sources] = {
    # OBX-18 and PRT-10 only by a site's rule: in published orders OBX-18 named another instrument 7 times of 7 (an
    # analyser, a scanner, a heart rate monitor). IPC-9 is the station that the ECG is planned on.
    "hl7": ("IPC-9.1",),
    "dicom": (
        "DeviceSerialNumber",
        "DeviceUID",
        "StationName",
        "Manufacturer + ManufacturerModelName",
        "ManufacturerModelName",
        "@calling_ae_title",
    ),
}
INDICATIONS: Final[_Sources] = {
    # NTE only where NTE-4 says that it is a reason: of 15 notes in published orders none was one ("Urgent", "Fasting
    # required"), and a note behind PID cannot be told from one behind OBR by its address.
    "hl7": (
        "OBR-31",
        "DG1-3",
        "OBR-13",
        "ORC-16",
        "PV2-3",
        "NTE[4.1=1R]-3",
        "NTE[4.1=2R]-3",
        "NTE[4.1=GR]-3",
        "OBX[3.1=46239-0]-5",
        "OBX[3.1=10154-3]-5",
    ),
    "dicom": (
        "RequestAttributesSequence.ReasonForTheRequestedProcedure",
        "RequestAttributesSequence.ReasonForRequestedProcedureCodeSequence.CodeMeaning",
        "ReasonForTheRequestedProcedure",
        "ReasonForRequestedProcedureCodeSequence.CodeMeaning",
        "AdmittingDiagnosesDescription | split",
        "AdmittingDiagnosesCodeSequence.CodeMeaning",
        "ReasonForVisit",
        "ReasonForStudy | split",
    ),
}
PLACER: Final[_Sources] = {"hl7": ("ORC-2", "OBR-2"), "dicom": ("PlacerOrderNumberImagingServiceRequest",)}
FILLER: Final[_Sources] = {"hl7": ("ORC-3", "OBR-3"), "dicom": ("FillerOrderNumberImagingServiceRequest",)}
ACCESSION: Final[_Sources] = {
    "hl7": ("IPC-1", "OBR-18"),
    "dicom": ("AccessionNumber", "RequestAttributesSequence.AccessionNumber"),
}
PROCEDURE: Final[_Sources] = {
    "hl7": ("IPC-2", "OBR-19"),
    "dicom": ("RequestedProcedureID", "RequestAttributesSequence.RequestedProcedureID"),
}
GENDER: Final[dict[str, Literal["MALE", "FEMALE", "UNDIFFERENTIATED", ""]]] = {
    "M": "MALE",
    "F": "FEMALE",
    "O": "UNDIFFERENTIATED",
    "A": "UNDIFFERENTIATED",
    "N": "UNDIFFERENTIATED",
}
"""HL7 table 0001 and PatientSex; what is not here leaves the field out, with a warning."""
