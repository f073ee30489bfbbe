// The calls to the server. Every failure becomes one sentence that an annotator can act on.

export class ServerError extends Error {}

const CLIENT_KEY = 'cspine-client';

/** The name under which this browser holds its case; the same until the browser's storage is cleared. */
export function clientId() {
  let id = localStorage.getItem(CLIENT_KEY);
  if (!id) {
    const bytes = crypto.getRandomValues(new Uint8Array(6));
    id = `ohif-${Array.from(bytes, byte => byte.toString(16).padStart(2, '0')).join('')}`;
    localStorage.setItem(CLIENT_KEY, id);
  }
  return id;
}

/** What the server can do. */
export async function info() {
  return (await call('/info/')).json();
}

/** The model's segmentation of an image, as the bytes of an NRRD. */
export async function segment(model, image) {
  const params = { result_extension: '.nrrd', result_dtype: 'uint8', result_compress: false, client_id: clientId() };
  const answer = await call(`/infer/${part(model)}?image=${part(image)}&output=image`, {
    method: 'POST',
    body: form(params),
  });
  return answer.arrayBuffer();
}

/** Store a label: an NRRD on the image's grid, with the names of its values and what was said of fractures. */
export async function saveLabel(image, nrrd, params) {
  const body = form({ ...params, client_id: clientId() });
  body.append('label', nrrd, 'label.nrrd');
  return (await call(`/datastore/label?image=${part(image)}&tag=final`, { method: 'PUT', body })).json();
}

/** The final label of an image as the bytes of a compressed NIfTI file; null where there is none. */
export async function savedLabel(image) {
  const answer = await call(`/datastore/label?label=${part(image)}&tag=final`, {}, [404]);
  return answer.ok ? answer.arrayBuffer() : null;
}

/** What was said of the fractures of an image before: by level, as `Fractures.load` takes it. */
export async function fractures(image) {
  return (await call(`/fractures?image=${part(image)}`)).json();
}

/** The case that this browser should do next: {id, StudyInstanceUID, …}, or {message} where there is none. */
export async function nextCase(strategy) {
  return (await call(`/activelearning/${part(strategy)}`, json({ client_id: clientId() }))).json();
}

async function call(path, options = {}, accepted = []) {
  let answer;
  try {
    answer = await fetch(path, { credentials: 'same-origin', ...options });
  } catch {
    throw new ServerError('The server does not answer. What you did is still here; try again when it is back.');
  }
  if (!answer.ok && !accepted.includes(answer.status)) throw new ServerError(await sentence(answer));
  return answer;
}

async function sentence(answer) {
  const text = await answer.text();
  try {
    const { detail } = JSON.parse(text);
    if (typeof detail === 'string' && detail) return detail;
  } catch {
    // Not JSON: an error page of something in between.
  }
  return `The server refused with status ${answer.status}; its log says why.`;
}

function form(params) {
  const body = new FormData();
  body.append('params', JSON.stringify(params));
  return body;
}

function json(value) {
  return { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(value) };
}

const part = encodeURIComponent;
