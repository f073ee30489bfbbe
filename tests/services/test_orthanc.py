"""Results in a real PACS: stored by C-STORE and by STOW-RS, found, and fetched again unchanged."""

from __future__ import annotations

import io
from email.message import Message
from email.parser import BytesParser

import httpx
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, StoragePresentationContexts, build_role, evt
from pynetdicom.sop_class import (
    Comprehensive3DSRStorage,
    CTImageStorage,
    SegmentationStorage,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

pytestmark = pytest.mark.service("orthanc")
RESULTS = ("positive.seg", "positive.sr", "failed.sr")
CLASSES = (CTImageStorage, SegmentationStorage, Comprehensive3DSRStorage)
BOUNDARY = "fracture-map-part"


def read(data: bytes) -> Dataset:
    return dcmread(io.BytesIO(data))


def everything(study) -> list[Dataset]:
    return [dcmread(path) for path in study.ct_files] + [read(study.objects[name]) for name in RESULTS]


def store(orthanc, datasets: list[Dataset]) -> list[int]:
    """C-STORE them; the status of each."""
    ae = AE(ae_title="FRACTUREMAP")
    for sop_class in CLASSES:
        ae.add_requested_context(sop_class, "1.2.840.10008.1.2.1")
    association = ae.associate("127.0.0.1", orthanc.dicom_port, ae_title="ORTHANC")
    assert association.is_established
    try:
        return [association.send_c_store(dataset).Status for dataset in datasets]
    finally:
        association.release()


def instance_query(dataset: Dataset) -> Dataset:
    query = Dataset()
    query.QueryRetrieveLevel = "IMAGE"
    query.StudyInstanceUID, query.SeriesInstanceUID = dataset.StudyInstanceUID, dataset.SeriesInstanceUID
    query.SOPInstanceUID = dataset.SOPInstanceUID
    return query


def stow(orthanc, files: list[bytes]) -> httpx.Response:
    parts = [
        b"--" + BOUNDARY.encode() + b"\r\nContent-Type: application/dicom\r\n\r\n" + data + b"\r\n"
        for data in files
    ]
    content_type = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
    return orthanc.http.post(
        "/dicom-web/studies",
        content=b"".join(parts) + b"--" + BOUNDARY.encode() + b"--\r\n",
        headers={"Content-Type": content_type, "Accept": "application/dicom+json"},
    )


def wado(orthanc, dataset: Dataset) -> bytes:
    """The one instance, as WADO-RS hands it out."""
    path = f"/dicom-web/studies/{dataset.StudyInstanceUID}/series/{dataset.SeriesInstanceUID}"
    answer = orthanc.http.get(
        f"{path}/instances/{dataset.SOPInstanceUID}",
        headers={"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'},
    )
    answer.raise_for_status()
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    message: Message = BytesParser().parsebytes(head + answer.content)
    (part,) = message.get_payload()
    return part.get_payload(decode=True)


def test_c_store_takes_ct_segmentation_and_reports(orthanc, study):
    assert set(store(orthanc, everything(study))) == {0x0000}
    assert orthanc.http.get("/statistics").json()["CountInstances"] == len(study.ct_files) + len(RESULTS)


def test_what_c_get_brings_back_is_what_was_stored(orthanc, study):
    store(orthanc, everything(study))
    received: list[Dataset] = []

    def keep(event: evt.Event) -> int:
        received.append(event.dataset)
        return 0x0000

    ae = AE(ae_title="FRACTUREMAP")
    ae.add_requested_context(StudyRootQueryRetrieveInformationModelGet)
    roles = []
    for sop_class in (SegmentationStorage, Comprehensive3DSRStorage):
        ae.add_requested_context(sop_class, "1.2.840.10008.1.2.1")
        roles.append(build_role(sop_class, scp_role=True))
    association = ae.associate(
        "127.0.0.1",
        orthanc.dicom_port,
        ae_title="ORTHANC",
        ext_neg=roles,
        evt_handlers=[(evt.EVT_C_STORE, keep)],
    )
    assert association.is_established
    for name in RESULTS:
        query = instance_query(read(study.objects[name]))
        answers = association.send_c_get(query, StudyRootQueryRetrieveInformationModelGet)
        assert [status.Status for status, _ in answers][-1] == 0x0000
    association.release()
    by_uid = {dataset.SOPInstanceUID: dataset for dataset in received}
    for name in RESULTS:
        sent = read(study.objects[name])
        assert by_uid[sent.SOPInstanceUID] == sent, name


def test_what_c_move_sends_on_is_what_was_stored(orthanc, study):
    store(orthanc, everything(study))
    received: list[Dataset] = []

    def keep(event: evt.Event) -> int:
        received.append(event.dataset)
        return 0x0000

    ae = AE(ae_title="FRACTUREMAP")
    ae.supported_contexts = StoragePresentationContexts
    server = ae.start_server(
        ("127.0.0.1", orthanc.move_port), block=False, evt_handlers=[(evt.EVT_C_STORE, keep)]
    )
    try:
        ae.add_requested_context(StudyRootQueryRetrieveInformationModelMove)
        association = ae.associate("127.0.0.1", orthanc.dicom_port, ae_title="ORTHANC")
        assert association.is_established
        for name in RESULTS:
            query = instance_query(read(study.objects[name]))
            answers = association.send_c_move(
                query, "FRACTUREMAP", StudyRootQueryRetrieveInformationModelMove
            )
            assert [status.Status for status, _ in answers][-1] == 0x0000
        association.release()
    finally:
        server.shutdown()
    by_uid = {dataset.SOPInstanceUID: dataset for dataset in received}
    for name in RESULTS:
        sent = read(study.objects[name])
        assert by_uid[sent.SOPInstanceUID] == sent, name


def test_stow_takes_segmentation_and_reports_and_wado_gives_them_back(orthanc, study):
    answer = stow(orthanc, [study.objects[name] for name in RESULTS])
    assert answer.status_code == httpx.codes.OK
    failed_sop_sequence = answer.json().get("00081198", {})
    assert not failed_sop_sequence.get("Value")
    assert len(answer.json()["00081199"]["Value"]) == len(RESULTS)
    for name in RESULTS:
        sent = read(study.objects[name])
        assert read(wado(orthanc, sent)) == sent, name


def test_the_file_that_rest_hands_out_is_the_file_that_was_stored(orthanc, study):
    assert stow(orthanc, [study.objects["positive.sr"]]).status_code == httpx.codes.OK
    (identifier,) = orthanc.http.get("/instances").json()
    assert orthanc.http.get(f"/instances/{identifier}/file").content == study.objects["positive.sr"]


def test_qido_finds_the_results_beside_the_ct_in_one_study(orthanc, study):
    store(orthanc, everything(study)[: len(study.ct_files)])
    stow(orthanc, [study.objects[name] for name in RESULTS])
    (found,) = orthanc.http.get("/dicom-web/studies", headers={"Accept": "application/dicom+json"}).json()
    assert found["0020000D"]["Value"] == [study.series.study_uid]
    series = orthanc.http.get(
        f"/dicom-web/studies/{study.series.study_uid}/series", headers={"Accept": "application/dicom+json"}
    ).json()
    modalities = sorted(item["00080060"]["Value"][0] for item in series)
    assert modalities == ["CT", "SEG", "SR", "SR"]
    descriptions = {item["0008103E"]["Value"][0] for item in series if item["00080060"]["Value"][0] != "CT"}
    assert all("research use only" in text for text in descriptions)
