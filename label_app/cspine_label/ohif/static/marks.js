// Boxes and points that the annotator draws with Cornerstone's rectangle and probe, each belonging to one level.

import { grid, toolGroups } from './viewer.js';

export const BOX = 'FractureBox';
export const POINT = 'FracturePoint';

const COLOR = 'rgb(255, 255, 255)';

const tools = () => window.cornerstoneTools;

/** Teach the viewer the two tools; `levelOfNew` names the level to which a new mark belongs. */
export function installMarks(levelOfNew, onChange) {
  const { RectangleROITool, ProbeTool } = tools();
  const kinds = [class extends RectangleROITool {}, class extends ProbeTool {}];
  kinds[0].toolName = BOX;
  kinds[1].toolName = POINT;
  for (const kind of kinds) {
    tools().addTool(kind);
    for (const group of toolGroups()) {
      group.addTool(kind.toolName, { getTextLines: data => [data.label] });
      group.setToolPassive(kind.toolName);
    }
  }
  const { ANNOTATION_ADDED, ANNOTATION_COMPLETED, ANNOTATION_MODIFIED, ANNOTATION_REMOVED } = tools().Enums.Events;
  listen(ANNOTATION_ADDED, mark => dedicate(mark, levelOfNew()));
  for (const event of [ANNOTATION_COMPLETED, ANNOTATION_MODIFIED, ANNOTATION_REMOVED]) listen(event, onChange);
}

function listen(event, listener) {
  window.cornerstone.eventTarget.addEventListener(event, ({ detail }) => {
    if (isMark(detail.annotation)) listener(detail.annotation);
  });
}

const isMark = annotation => [BOX, POINT].includes(annotation?.metadata.toolName);

const STYLED = ['color', 'textBoxColor', 'textBoxLinkLineColor'].flatMap(name =>
  ['', 'Highlighted', 'Selected', 'Locked'].map(state => name + state)
);

function dedicate(mark, name) {
  const styles = Object.fromEntries(STYLED.map(style => [style, COLOR]));
  mark.data.label = name;
  tools().annotation.config.style.setAnnotationStyles(mark.annotationUID, { ...styles, lineWidth: 2 });
}

const marksOf = name =>
  tools().annotation.state.getAllAnnotations().filter(mark => isMark(mark) && mark.data.label === name);

/** Boxes and points drawn for a level: {boxes: [[low, high], …], points: […]}, LPS mm. */
export function drawn(name) {
  const marks = marksOf(name);
  return {
    boxes: marks.filter(mark => mark.metadata.toolName === BOX).map(boxOf),
    points: marks.filter(mark => mark.metadata.toolName === POINT).map(mark => [...mark.data.handles.points[0]]),
  };
}

/** Remove what was drawn for a level. */
export function erase(name) {
  for (const mark of marksOf(name)) tools().annotation.state.removeAnnotation(mark.annotationUID);
  tools().utilities.triggerAnnotationRenderForViewportIds(toolGroups().flatMap(group => group.getViewportIds()));
}

/** The corners of a rectangle as a box: a drawing has no depth, so it gets the one slice on which it was made. */
function boxOf(mark) {
  const normal = mark.metadata.viewPlaneNormal;
  const half = grid().directions.reduce((mm, step) => mm + Math.abs(step.reduce((sum, v, i) => sum + v * normal[i], 0)), 0) / 2;
  const corners = mark.data.handles.points.flatMap(point =>
    [-half, half].map(depth => point.map((at, i) => at + depth * normal[i]))
  );
  return [Math.min, Math.max].map(end => [0, 1, 2].map(i => end(...corners.map(corner => corner[i]))));
}
