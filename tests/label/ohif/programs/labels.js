async () => {
  const viewer = await import('/ohif/cspine/viewer.js');
  const file = new Blob([viewer.labels()]);
  const text = await new Promise(done => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result.split(',')[1]);
    reader.readAsDataURL(file);
  });
  return { text, ...viewer.grid() };
}
