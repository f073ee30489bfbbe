() => {
  const values = window.cornerstone.cache.getVolumes()[0].voxelManager.getCompleteScalarDataArray();
  return values.reduce(([low, high], hu) => [Math.min(low, hu), Math.max(high, hu)], [Infinity, -Infinity]);
}
