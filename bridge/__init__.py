"""The bridge between hospitals and the Cardio API: HL7 v2 orders and DICOM ECGs in, tasks out."""
