async value => {
  const viewer = await import('/ohif/cspine/viewer.js');
  const viewport = window.services.cornerstoneViewportService.getCornerstoneViewport('mpr-axial');
  const [x, y] = viewport.worldToCanvas(viewer.centerOf(value));
  const box = viewport.canvas.getBoundingClientRect();
  return [box.x + x, box.y + y];
}
