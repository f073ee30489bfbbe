async () => {
  const service = window.services.segmentationService;
  const segments = Object.values(service.getSegmentation('cspine').segments);
  const [viewport] = service.getViewportIdsWithSegmentation('cspine');
  const color = segment => service.getSegmentColor(viewport, 'cspine', segment.segmentIndex);
  return segments.map(segment => [segment.label, color(segment).slice(0, 3)]);
}
