// Labels as NRRD files: eight bits a voxel, with the grid in LPS millimetres, so that no one has to guess an order.
//
// A grid is {size: [nx, ny, nz], directions: three vectors in mm a voxel, origin: centre of the first voxel}.
// Labels lie with x fastest.

export class NrrdError extends Error {}

const TOLERANCE_VOXELS = 0.1;
const TYPES = {
  uint8: Uint8Array,
  'unsigned char': Uint8Array,
  uchar: Uint8Array,
  uint16: Uint16Array,
  ushort: Uint16Array,
  'unsigned short': Uint16Array,
  int16: Int16Array,
  short: Int16Array,
};
const ELSEWHERE = 'The segmentation does not lie on the grid of the image that is shown.';

/** A label as a compressed NRRD file. */
export async function encode(labels, grid) {
  const header = [
    'NRRD0004',
    'type: uint8',
    'dimension: 3',
    'space: left-posterior-superior',
    `sizes: ${grid.size.join(' ')}`,
    `space directions: ${grid.directions.map(text).join(' ')}`,
    'kinds: domain domain domain',
    'encoding: gzip',
    `space origin: ${text(grid.origin)}`,
    '\n',
  ].join('\n');
  const packed = new Blob([labels]).stream().pipeThrough(new CompressionStream('gzip'));
  return new Blob([header, await new Response(packed).arrayBuffer()], { type: 'application/octet-stream' });
}

/** The label in an NRRD on `grid`, its axes turned where they run otherwise; throws NrrdError where it cannot be. */
export async function decode(bytes, grid, highest) {
  const { fields, start } = readHeader(new Uint8Array(bytes));
  const own = gridOf(fields);
  const values = await readValues(fields, bytes.slice(start));
  if (values.length !== count(own)) throw new NrrdError('The segmentation is cut off; run it again.');
  if (values.some(value => value < 0 || value > highest)) {
    throw new NrrdError('The segmentation holds values that are no vertebra.');
  }
  return turned(values, own, grid);
}

function readHeader(bytes) {
  let end = 0;
  while (end + 1 < bytes.length && !(bytes[end] === 10 && bytes[end + 1] === 10)) end += 1;
  const lines = new TextDecoder('latin1').decode(bytes.subarray(0, end)).split('\n');
  if (!lines[0].startsWith('NRRD')) throw new NrrdError('The server did not send a segmentation.');
  const fields = {};
  for (const line of lines.slice(1)) {
    const at = line.indexOf(': ');
    if (at > 0 && !line.startsWith('#')) fields[line.slice(0, at)] = line.slice(at + 2).trim();
  }
  return { fields, start: end + 2 };
}

function gridOf(fields) {
  const size = (fields.sizes || '').split(/\s+/).map(Number);
  const directions = vectors(fields['space directions']);
  const [origin] = vectors(fields['space origin']);
  const placed = ['left-posterior-superior', 'LPS'].includes(fields.space) && size.length === 3;
  if (!placed || directions.length !== 3 || !origin) throw new NrrdError(ELSEWHERE);
  return { size, directions, origin };
}

async function readValues(fields, data) {
  const type = TYPES[fields.type];
  if (!type) throw new NrrdError(`The segmentation is stored as ${fields.type}, which is not read here.`);
  if (type !== Uint8Array && fields.endian === 'big') throw new NrrdError('The segmentation is big endian.');
  if (fields.encoding === 'raw') return new type(data);
  if (!['gzip', 'gz'].includes(fields.encoding)) throw new NrrdError(`Encoding ${fields.encoding} is not read here.`);
  const stream = new Blob([data]).stream().pipeThrough(new DecompressionStream('gzip'));
  return new type(await new Response(stream).arrayBuffer());
}

/** Values of grid `from` in the order of grid `onto`: the same voxels, axes exchanged or reversed. */
function turned(values, from, onto) {
  const strides = [1, from.size[0], from.size[0] * from.size[1]];
  const toIndex = inverse(from.directions);
  const first = whole(toIndex(onto.origin.map((at, axis) => at - from.origin[axis])));
  const steps = onto.directions.map(direction => whole(toIndex(direction)));
  const last = first.map((at, axis) => at + dot(steps.map(step => step[axis]), onto.size.map(n => n - 1)));
  const inside = [first, last].every(index => index.every((at, axis) => at >= 0 && at < from.size[axis]));
  if (!inside || count(from) !== count(onto) || steps.some(step => step.filter(Boolean).length !== 1)) {
    throw new NrrdError(ELSEWHERE);
  }
  const [dx, dy, dz] = steps.map(step => dot(step, strides));
  const [nx, ny, nz] = onto.size;
  const result = new Uint8Array(values.length);
  let to = 0;
  for (let z = 0; z < nz; z += 1) {
    for (let y = 0; y < ny; y += 1) {
      let at = dot(first, strides) + z * dz + y * dy;
      for (let x = 0; x < nx; x += 1, at += dx) result[to++] = values[at];
    }
  }
  return result;
}

/** A function from mm to voxels along three directions. */
function inverse([a, b, c]) {
  const volume = dot(a, cross(b, c));
  const rows = [cross(b, c), cross(c, a), cross(a, b)];
  return vector => rows.map(row => dot(row, vector) / volume);
}

function whole(index) {
  const rounded = index.map(Math.round);
  if (index.some((at, axis) => Math.abs(at - rounded[axis]) > TOLERANCE_VOXELS)) throw new NrrdError(ELSEWHERE);
  return rounded;
}

const count = grid => grid.size[0] * grid.size[1] * grid.size[2];
const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const text = values => `(${values.join(',')})`;
const vectors = value => Array.from((value || '').matchAll(/\(([^)]*)\)/g), match => match[1].split(',').map(Number));
