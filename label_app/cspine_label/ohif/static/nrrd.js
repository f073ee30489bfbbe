// Labels as NRRD files: eight bits a voxel, with the grid in LPS millimetres, so that no one has to guess an order.

import { ELSEWHERE, LabelFileError, labelsOn } from './grid.js';

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

/** The label in an NRRD on `grid`, its axes turned where they run otherwise; throws LabelFileError where it cannot be. */
export async function decode(bytes, grid, highest) {
  const { fields, start } = readHeader(new Uint8Array(bytes));
  const own = gridOf(fields);
  return labelsOn(grid, own, await readValues(fields, bytes.slice(start)), highest);
}

function readHeader(bytes) {
  let end = 0;
  while (end + 1 < bytes.length && !(bytes[end] === 10 && bytes[end + 1] === 10)) end += 1;
  const lines = new TextDecoder('latin1').decode(bytes.subarray(0, end)).split('\n');
  if (!lines[0].startsWith('NRRD')) throw new LabelFileError('The server did not send a segmentation.');
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
  if (!placed || directions.length !== 3 || !origin) throw new LabelFileError(ELSEWHERE);
  return { size, directions, origin };
}

async function readValues(fields, data) {
  const type = TYPES[fields.type];
  if (!type) throw new LabelFileError(`The segmentation is stored as ${fields.type}, which is not read here.`);
  if (type !== Uint8Array && fields.endian === 'big') throw new LabelFileError('The segmentation is big endian.');
  if (fields.encoding === 'raw') return new type(data);
  if (!['gzip', 'gz'].includes(fields.encoding)) throw new LabelFileError(`Encoding ${fields.encoding} is not read here.`);
  const stream = new Blob([data]).stream().pipeThrough(new DecompressionStream('gzip'));
  return new type(await new Response(stream).arrayBuffer());
}

const text = values => `(${values.join(',')})`;
const vectors = value => Array.from((value || '').matchAll(/\(([^)]*)\)/g), match => match[1].split(',').map(Number));
