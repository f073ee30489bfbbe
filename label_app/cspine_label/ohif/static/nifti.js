// Labels as the server keeps them: compressed NIfTI-1, little endian, eight bits a voxel, placed by its sform in RAS mm.

import { LabelFileError, labelsOn } from './grid.js';

const HEADER_BYTES = 348;
const UINT8 = 2;
const AT = { dim: 40, datatype: 70, offset: 108, sformCode: 254, sform: 280 };

/** The label in a compressed NIfTI file on `grid`; throws LabelFileError where it cannot be. */
export async function decode(bytes, grid, highest) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
  const file = await new Response(stream).arrayBuffer();
  const header = new DataView(file);
  const usable =
    header.byteLength > HEADER_BYTES &&
    header.getInt32(0, true) === HEADER_BYTES &&
    header.getInt16(AT.datatype, true) === UINT8 &&
    header.getInt16(AT.sformCode, true) > 0;
  if (!usable) throw new LabelFileError('The saved label is no NIfTI file of the label server.');
  const own = gridOf(header);
  const count = own.size.reduce((product, n) => product * n, 1);
  return labelsOn(grid, own, new Uint8Array(file).subarray(header.getFloat32(AT.offset, true)).subarray(0, count), highest);
}

function gridOf(header) {
  const size = [1, 2, 3].map(axis => header.getInt16(AT.dim + 2 * axis, true));
  // RAS mm become LPS mm: the first two coordinates change their sign.
  const sform = [-1, -1, 1].map((sign, row) =>
    [0, 1, 2, 3].map(column => sign * header.getFloat32(AT.sform + 16 * row + 4 * column, true))
  );
  const column = index => sform.map(row => row[index]);
  return { size, directions: [0, 1, 2].map(column), origin: column(3) };
}
