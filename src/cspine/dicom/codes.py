"""Every coded concept that is written, once, with the clause of DICOM it comes from.

PS3.16 holds the context groups (CID) and templates (TID); the SNOMED CT codes are among those that DICOM
lists itself and that may be used with DICOM without a SNOMED licence.
"""

from __future__ import annotations

from typing import Final

from pydicom.sr.coding import Code

from cspine.anatomy import Vertebra
from cspine.findings import Decision, Outcome

VERTEBRA: Final[dict[Vertebra, Code]] = {
    # PS3.16 CID 7603 Vertebra; the same codes stand in CID 7192 for segments.
    Vertebra.C1: Code("14806007", "SCT", "C1 vertebra"),
    Vertebra.C2: Code("39976000", "SCT", "C2 vertebra"),
    Vertebra.C3: Code("113205007", "SCT", "C3 vertebra"),
    Vertebra.C4: Code("5329002", "SCT", "C4 vertebra"),
    Vertebra.C5: Code("36978003", "SCT", "C5 vertebra"),
    Vertebra.C6: Code("36054005", "SCT", "C6 vertebra"),
    Vertebra.C7: Code("87391001", "SCT", "C7 vertebra"),
}
VERTEBRA_OF: Final[dict[str, Vertebra]] = {code.value: vertebra for vertebra, code in VERTEBRA.items()}
"""Vertebra by code value: the way back."""

CERVICAL_SPINE: Final = Code("122494005", "SCT", "Cervical spine")  # PS3.16 CID 4031
BODY_PART: Final = "CSPINE"  # PS3.16 Annex L, Table L-1: Body Part Examined of 122494005
ANATOMICAL_STRUCTURE: Final = Code("91723000", "SCT", "Anatomical Structure")  # PS3.16 CID 7150

# 269062008 would say CLOSED fracture, which CT alone does not show.
FRACTURE: Final = Code("125605004", "SCT", "Fracture of bone")
DECISION: Final[dict[Decision, Code]] = {
    # PS3.16 CID 240 Present-Absent.
    Decision.PRESENT: Code("52101004", "SCT", "Present"),
    Decision.ABSENT: Code("272519000", "SCT", "Absent"),
    Decision.UNDETERMINED: Code("373068000", "SCT", "Undetermined"),
}

SUMMARY: Final = Code("111017", "DCM", "CAD Processing and Findings Summary")  # PS3.16 TID 4001, row 3
OUTCOME: Final[dict[Outcome, Code]] = {
    # PS3.16 CID 6047 CAD Processing and Findings Summary.
    Outcome.COMPLETE_NO_FINDINGS: Code("111241", "DCM", "All algorithms succeeded; without findings"),
    Outcome.COMPLETE_FINDINGS: Code("111242", "DCM", "All algorithms succeeded; with findings"),
    Outcome.PARTIAL_NO_FINDINGS: Code("111243", "DCM", "Not all algorithms succeeded; without findings"),
    Outcome.PARTIAL_FINDINGS: Code("111244", "DCM", "Not all algorithms succeeded; with findings"),
    Outcome.FAILED: Code("111245", "DCM", "No algorithms succeeded; without findings"),
}

# PS3.16 TID 1500 Measurement Report and what it includes.
REPORT_TITLE: Final = Code("126000", "DCM", "Imaging Measurement Report")  # CID 7021
LANGUAGE: Final = Code("en-US", "RFC5646", "English (United States)")  # TID 1204, CID 5000
PROCEDURE_FALLBACK: Final = Code("25045-6", "LN", "CT unspecified body region")  # CID 100
DEVICE: Final = Code("121007", "DCM", "Device")  # TID 1002, CID 270
PERSON: Final = Code("121006", "DCM", "Person")  # TID 1002, CID 270
MEASUREMENTS: Final = Code("126010", "DCM", "Imaging Measurements")  # TID 1500, row 7
MEASUREMENT_GROUP: Final = Code("125007", "DCM", "Measurement Group")  # TID 1411, row 1
QUALITATIVE: Final = Code("C0034375", "UMLS", "Qualitative Evaluations")  # TID 1500, row 12
TRACKING_UID: Final = Code("112040", "DCM", "Tracking Unique Identifier")  # TID 4108
FINDING: Final = Code("121071", "DCM", "Finding")  # TID 1411, row 6
PROBABILITY: Final = Code("122157", "DCM", "Probability")  # TID 300
RATIO: Final = Code("1", "UCUM", "no units")  # PS3.16 CID 82
KEY_SLICE: Final = Code("121200", "DCM", "Illustration of ROI")  # CID 7003
COMMENT: Final = Code("121106", "DCM", "Comment")

ARTIFICIAL_INTELLIGENCE: Final = Code("123110", "DCM", "Artificial Intelligence")  # CID 7162, TID 4019
PROCESSING_EQUIPMENT: Final = Code("109102", "DCM", "Processing Equipment")  # CID 7005

OF_INTEREST: Final = Code("113000", "DCM", "Of Interest")  # CID 7010, TID 2010
DOCUMENT_TITLE: Final = Code("18748-4", "LN", "Diagnostic Imaging Report")  # CID 7000
