// All that is known of OHIF 3.9 and Cornerstone3D stands here and in marks.js: what is shown, the label map, the tools.

export const BRUSH = 'CircularBrush';
export const ERASER = 'CircularEraser';
export const LOOK = 'WindowLevel';

const SEGMENTATION = 'cspine';
const MODE_PATH = /\/monai-label\b/;
const LABELMAP = 'Labelmap';
const POLL_MS = 300;

const services = () => window.services;
const tools = () => window.cornerstoneTools;
const core = () => window.cornerstone;

/** Whether the page is the annotation mode, in which the panel belongs. */
export const inMode = () => MODE_PATH.test(location.pathname);

/** Address of a case in the annotation mode: its series alone, for a study may hold several. */
export function addressOf({ id, StudyInstanceUID }) {
  return `/ohif/monai-label?${new URLSearchParams({ StudyInstanceUIDs: StudyInstanceUID, SeriesInstanceUIDs: id })}`;
}

/** Wait until `find` returns something. */
export async function until(find) {
  for (;;) {
    const found = find();
    if (found) return found;
    await new Promise(resolve => setTimeout(resolve, POLL_MS));
  }
}

/** The CT in the viewports: {image, study, displaySet, viewports}, or null while there is none yet. */
export function shownCase() {
  const grid = services()?.viewportGridService?.getState();
  if (!grid || !core() || !tools()) return null;
  const shown = [...grid.viewports.values()].filter(viewport => viewport.displaySetInstanceUIDs?.length);
  if (!shown.length) return null;
  const displaySet = services().displaySetService.getDisplaySetByUID(shown[0].displaySetInstanceUIDs[0]);
  const viewports = shown.map(viewport => viewport.viewportId);
  if (displaySet?.Modality !== 'CT' || !viewports.every(isReady)) return null;
  return { image: displaySet.SeriesInstanceUID, study: displaySet.StudyInstanceUID, displaySet, viewports };
}

function isReady(viewportId) {
  const viewport = services().cornerstoneViewportService.getCornerstoneViewport(viewportId);
  return Boolean(viewport?.getAllVolumeIds?.().length && core().cache.getVolume(viewport.getAllVolumeIds()[0]));
}

/** Make the empty label map of a case and show it in every viewport, each level with its name and colour. */
export async function createLabelmap({ displaySet, viewports }, levels) {
  const service = services().segmentationService;
  const segments = Object.fromEntries(
    levels.map((level, i) => [
      level.value,
      { segmentIndex: level.value, label: level.name, active: i === 0, locked: false },
    ])
  );
  await service.createLabelmapForDisplaySet(displaySet, { segmentationId: SEGMENTATION, label: 'Vertebrae', segments });
  for (const viewportId of viewports) {
    await service.addSegmentationRepresentation(viewportId, { segmentationId: SEGMENTATION, type: LABELMAP });
    service.setActiveSegmentation(viewportId, SEGMENTATION);
    for (const { value, rgb } of levels) service.setSegmentColor(viewportId, SEGMENTATION, value, [...rgb, 255]);
  }
}

const labelmap = () => services().segmentationService.getLabelmapVolume(SEGMENTATION);

/** The grid of the label map, as in nrrd.js. */
export function grid() {
  const { dimensions, spacing, direction, origin } = labelmap();
  const directions = [0, 1, 2].map(axis => [0, 1, 2].map(way => direction[3 * axis + way] * spacing[axis]));
  return { size: [...dimensions], directions, origin: [...origin] };
}

/** The label of every voxel, x fastest. */
export const labels = () => Uint8Array.from(labelmap().voxelManager.getCompleteScalarDataArray());

/** Replace the label of every voxel. */
export function setLabels(values) {
  labelmap().voxelManager.setCompleteScalarDataArray(values);
  tools().segmentation.triggerSegmentationEvents.triggerSegmentationDataModified(SEGMENTATION);
}

/** Call `listener` whenever brush or eraser changed voxels; only they say which slices they changed. */
export function onPainted(listener) {
  core().eventTarget.addEventListener(tools().Enums.Events.SEGMENTATION_DATA_MODIFIED, ({ detail }) => {
    if (detail.segmentationId === SEGMENTATION && detail.modifiedSlicesToUse) listener();
  });
}

/** Paint this level from now on. */
export const setLevel = value => services().segmentationService.setActiveSegment(SEGMENTATION, value);

/** Give the left mouse button to a tool. */
export const setTool = toolName => window.commandsManager.runCommand('setToolActiveToolbar', { toolName });

/** The tool that has the left mouse button. */
export const currentTool = () => toolGroups()[0]?.getActivePrimaryMouseButtonTool();

/** The tool groups of flat viewports. */
export const toolGroups = () => tools().ToolGroupManager.getAllToolGroups().filter(group => group.hasTool(BRUSH));

/** Radius of brush and eraser. */
export function setBrushRadius(mm) {
  for (const group of toolGroups()) tools().utilities.segmentation.setBrushSizeForToolGroup(group.id, mm);
}

/** Show or hide the label map. */
export function setOverlay({ viewports }, levels, visible) {
  const service = services().segmentationService;
  for (const viewportId of viewports) {
    for (const { value } of levels) {
      service.setSegmentVisibility(viewportId, SEGMENTATION, value, visible, LABELMAP);
    }
  }
}

/** Move every viewport to a point, LPS mm. */
export function jumpTo({ viewports }, point) {
  for (const viewportId of viewports) {
    const viewport = services().cornerstoneViewportService.getCornerstoneViewport(viewportId);
    viewport?.jumpToWorld?.(point);
  }
}

/** The middle of a level, LPS mm; null where it is not drawn. */
export function centerOf(value) {
  const { size, directions, origin } = grid();
  const values = labelmap().voxelManager.getCompleteScalarDataArray();
  const sums = [0, 0, 0];
  let found = 0;
  for (let at = values.indexOf(value); at >= 0; at = values.indexOf(value, at + 1)) {
    const row = Math.floor(at / size[0]);
    sums[0] += at % size[0];
    sums[1] += row % size[1];
    sums[2] += Math.floor(row / size[1]);
    found += 1;
  }
  if (!found) return null;
  return origin.map((start, way) => start + directions.reduce((mm, step, i) => mm + (step[way] * sums[i]) / found, 0));
}
