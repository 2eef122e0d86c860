"""The DICOM door: an acceptor of our own on pynetdicom's codecs, and the services behind it."""
