"""The same study through the stock parts: the SDK's operators, MONAI's transforms and inferers.

A child of `bench_study.py`: runs the study a number of times in one process and prints one JSON line a run,
``{"seconds": ..., "stages": {...}, "levels": [...], "probabilities": {...}}``. Two ways of using the stock
parts (docs/explanation/benchmark.md says why two):

- ``shipped``: each network as its bundle's inference.json has it, in the SDK's MonaiSegInferenceOperator;
- ``tuned``: the same parts put together by someone who watched where the time goes.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from cspine.anatomy import CERVICAL
from cspine.cuda_runtime import preload
from cspine.settings import LOCALIZATION, SEGMENTATION, models_dir

preload()

import torch  # noqa: E402
from monai.deploy.conditions import CountCondition  # noqa: E402
from monai.deploy.core import Application  # noqa: E402
from monai.deploy.operators import (  # noqa: E402
    DICOMDataLoaderOperator,
    DICOMSegmentationWriterOperator,
    DICOMSeriesSelectorOperator,
    DICOMSeriesToVolumeOperator,
    DICOMTextSRWriterOperator,
)
from monai.deploy.operators.dicom_seg_writer_operator import SegmentDescription  # noqa: E402
from monai.deploy.operators.dicom_utils import EquipmentInfo, ModelInfo  # noqa: E402
from pydicom.sr.coding import Code  # noqa: E402
from stock_operators import Classify, Networks, SegmentAsShipped, SegmentTuned  # noqa: E402

RULES = json.dumps({"selections": [{"name": "CT", "conditions": {"Modality": "(?i)CT"}}]})
LEVEL_CODES = ("14806007", "39976000", "113205007", "5329002", "36978003", "36054005", "87391001")


def timed(operator: type[Any], stages: dict[str, float]) -> type[Any]:
    """The same operator, noting how long each compute takes."""

    def compute(self: Any, op_input: Any, op_output: Any, context: Any) -> None:
        begin = time.perf_counter()
        operator.compute(self, op_input, op_output, context)
        stages[self.name] = time.perf_counter() - begin

    return type(operator.__name__, (operator,), {"compute": compute})


class StockGraph(Application):
    """Load, select, convert, segment, classify, write SEG and SR."""

    def __init__(self, options: argparse.Namespace, networks: Networks, said: dict[str, Any]) -> None:
        self._options, self._networks, self._said = options, networks, said
        super().__init__([sys.executable])

    def compose(self) -> None:
        stages, out, nets = self._said["stages"], self._options.out, self._networks
        load = timed(DICOMDataLoaderOperator, stages)(
            self, CountCondition(self, 1), name="load", input_folder=self._options.study
        )
        select = timed(DICOMSeriesSelectorOperator, stages)(self, name="select", rules=RULES)
        convert = timed(DICOMSeriesToVolumeOperator, stages)(self, name="convert")
        shipped = self._options.way == "shipped"
        classify = timed(Classify, stages)(
            self, name="classify", networks=nets, said=self._said, gated=shipped
        )
        write_seg = timed(DICOMSegmentationWriterOperator, stages)(
            self, name="write_segmentation", segment_descriptions=described_levels(), output_folder=out
        )
        write_sr = timed(DICOMTextSRWriterOperator, stages)(
            self,
            name="write_report",
            output_folder=out,
            model_info=ModelInfo(),
            equipment_info=EquipmentInfo(),
        )
        self.add_flow(load, select, {("dicom_study_list", "dicom_study_list")})
        self.add_flow(select, convert, {("study_selected_series_list", "study_selected_series_list")})
        for writer in (write_seg, write_sr):
            self.add_flow(select, writer, {("study_selected_series_list", "study_selected_series_list")})
        self.add_flow(convert, classify, {("image", "image")})
        if shipped:
            of_one_bundle = timed(SegmentAsShipped, stages)
            locate = of_one_bundle(self, name="localize", networks=nets, bundle=LOCALIZATION)
            segment = of_one_bundle(self, name="segment", networks=nets, bundle=SEGMENTATION)
            self.add_flow(convert, locate, {("image", "image")})
            self.add_flow(locate, classify, {("seg_image", "spine")})
        else:
            segment = timed(SegmentTuned, stages)(self, name="segment", networks=nets)
        self.add_flow(convert, segment, {("image", "image")})
        self.add_flow(segment, classify, {("seg_image", "seg_image")})
        self.add_flow(classify, write_seg, {("levels", "seg_image")})
        self.add_flow(classify, write_sr, {("text", "text")})


def described_levels() -> list[SegmentDescription]:
    """C1..C7 as the SDK's writer wants them described."""
    return [
        SegmentDescription(
            segment_label=level.name,
            segmented_property_category=Code("91723000", "SCT", "Anatomical Structure"),
            segmented_property_type=Code(code, "SCT", f"{level.name} vertebra"),
            algorithm_name=SEGMENTATION,
            algorithm_version="0",
        )
        for level, code in zip(CERVICAL, LEVEL_CODES, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", type=Path, default=models_dir())
    parser.add_argument("--way", choices=("shipped", "tuned"), default="shipped")
    parser.add_argument("--runs", type=int, default=1)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    networks = Networks(
        options.models, bfloat16=options.way == "tuned" and torch.cpu._is_avx512_bf16_supported()
    )
    for _ in range(options.runs):
        said: dict[str, Any] = {"stages": {}}
        begin = time.perf_counter()
        StockGraph(options, networks, said).run()
        said["seconds"] = time.perf_counter() - begin
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
