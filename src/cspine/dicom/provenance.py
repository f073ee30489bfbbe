"""Who made an object and how it leaves as bytes: what every object that is written has in common."""

from __future__ import annotations

import datetime
import hashlib
import io
import logging
import uuid
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import highdicom
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID

from cspine import __version__, settings
from cspine.anatomy import Vertebra
from cspine.dicom import codes
from cspine.dicom.headers import quietly
from cspine.errors import OutputError
from cspine.findings import ModelVersion

# highdicom logs SOP Instance UIDs at level INFO.
logging.getLogger("highdicom").setLevel(logging.WARNING)

SERIES_NUMBERS: Final = {"SEG": 9001, "SR": 9002, "KO": 9003, "OT": 9004, "DOC": 9005}
"""Series Number of each kind of result: far above what scanners use, so that they sort to the end."""


def new_uid() -> UID:
    """A UID that was never used before (PS3.5 B.2: a UUID under 2.25)."""
    return UID(f"2.25.{uuid.uuid4().int}")


def uid_of(*parts: object) -> UID:
    """The UID that stands for `parts`: the same today, tomorrow and on another machine."""
    name = "|".join(str(part) for part in ("fracture-map", *parts))
    return UID(f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, name).int}")


def tracking_uid(study_uid: str, series_uid: str, level: Vertebra | None) -> UID:
    """Tracking UID of a vertebra (None: the cervical spine) of a series: equal in SEG, SR and re-runs."""
    return uid_of("tracking", study_uid, series_uid, level or codes.CERVICAL_SPINE.value)


def tracking_identifier(level: Vertebra | None) -> str:
    """Tracking Identifier, the label that viewers show."""
    return str(level) if level else codes.CERVICAL_SPINE.meaning


@dataclass(frozen=True)
class Provenance:
    """The software and the networks that made a result.

    Attributes:
        models: the networks.
        version: of the software.
        person: DICOM person name of whoever observed beside the software; empty where nobody did.
    """

    models: tuple[ModelVersion, ...] = ()
    version: str = __version__
    person: str = ""

    @cached_property
    def _digest(self) -> str:
        parts = [self.version, *sorted(f"{m.name} {m.version} {m.sha256}" for m in self.models)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @cached_property
    def device_uid(self) -> UID:
        """UID of this software with these weights; another version or other weights, another UID.

        IHE AI Results 6.5.3.1.
        """
        return uid_of("device", self._digest)

    def algorithm(self, bundle: str) -> ModelVersion:
        """The network that came from `bundle`, or the product itself where none is known."""
        unknown = ModelVersion(settings.PRODUCT, self.version, "")
        return next((model for model in self.models if model.name == bundle), unknown)

    def equipment(self) -> dict[str, Any]:
        """What highdicom's classes take of the General Equipment and SOP Common modules."""
        ours = highdicom.ContributingEquipment(
            manufacturer=settings.MANUFACTURER,
            purpose_of_reference=codes.PROCESSING_EQUIPMENT,
            manufacturer_model_name=settings.PRODUCT,
            software_versions=self.version,
            device_serial_number=self._digest[:16],
            contribution_datetime=datetime.datetime.now(),
            contribution_description="AI detection of cervical spine fractures, research use only",
        )
        ours.DeviceUID = self.device_uid
        return {
            "manufacturer": settings.MANUFACTURER,
            "manufacturer_model_name": settings.PRODUCT,
            "software_versions": self.version,
            "device_serial_number": self._digest[:16],
            "contributing_equipment": [ours],
        }

    def observation_context(self) -> Any:
        """Who observed: the device (PS3.16 TID 1004) and, where there is one, the person (TID 1003)."""
        person = None
        if self.person:
            person = highdicom.sr.ObserverContext(
                observer_type=codes.PERSON,
                observer_identifying_attributes=highdicom.sr.PersonObserverIdentifyingAttributes(
                    name=self.person
                ),
            )
        return highdicom.sr.ObservationContext(
            observer_person_context=person, observer_device_context=self.device()
        )

    def device(self) -> Any:
        """The device that observed (PS3.16 TID 1004)."""
        return highdicom.sr.ObserverContext(
            observer_type=codes.DEVICE,
            observer_identifying_attributes=highdicom.sr.DeviceObserverIdentifyingAttributes(
                uid=self.device_uid,
                name=settings.PRODUCT,
                manufacturer_name=settings.MANUFACTURER,
                model_name=settings.PRODUCT,
            ),
        )


def instance(modality: str, description: str) -> dict[str, Any]:
    """What highdicom's classes take to place a new instance in a new series of its own."""
    return {
        "series_instance_uid": new_uid(),
        "series_number": SERIES_NUMBERS[modality],
        "sop_instance_uid": new_uid(),
        "instance_number": 1,
        "series_description": description,
    }


def to_bytes(dataset: Dataset) -> bytes:
    """The file (PS3.10) that holds `dataset`.

    Raises:
        OutputError: a value cannot be encoded.
    """
    buffer = io.BytesIO()
    try:
        with quietly():
            dataset.save_as(buffer, enforce_file_format=True)
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise OutputError(f"A result could not be encoded as DICOM ({type(error).__name__}).") from None
    return buffer.getvalue()


def from_bytes(data: bytes) -> Dataset:
    """Read a file back.

    Raises:
        OutputError: it is no DICOM file.
    """
    try:
        with quietly():
            return dcmread(io.BytesIO(data))
    except Exception:  # pydicom raises many kinds on damaged bytes
        raise OutputError("A result that was written cannot be read back as DICOM.") from None
