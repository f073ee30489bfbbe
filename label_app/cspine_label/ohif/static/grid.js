// Label maps from one grid to another: the same voxels, axes exchanged or reversed.
//
// A grid is {size: [nx, ny, nz], directions: three vectors in mm a voxel, origin: centre of the first voxel}, LPS mm.
// Labels lie with x fastest.

/** A file that cannot be the label of the image that is shown; the message says why. */
export class LabelFileError extends Error {}

export const ELSEWHERE = 'The segmentation does not lie on the grid of the image that is shown.';

const TOLERANCE_VOXELS = 0.1;

/** Values of grid `from` as labels on grid `onto`; throws LabelFileError where they cannot be. */
export function labelsOn(onto, from, values, highest) {
  if (values.length !== count(from)) throw new LabelFileError('The segmentation is cut off; ask for it again.');
  if (values.some(value => value < 0 || value > highest)) {
    throw new LabelFileError('The segmentation holds values that are no vertebra.');
  }
  return turned(values, from, onto);
}

function turned(values, from, onto) {
  const strides = [1, from.size[0], from.size[0] * from.size[1]];
  const toIndex = inverse(from.directions);
  const first = whole(toIndex(onto.origin.map((at, axis) => at - from.origin[axis])));
  const steps = onto.directions.map(direction => whole(toIndex(direction)));
  const last = first.map((at, axis) => at + dot(steps.map(step => step[axis]), onto.size.map(n => n - 1)));
  const inside = [first, last].every(index => index.every((at, axis) => at >= 0 && at < from.size[axis]));
  if (!inside || count(from) !== count(onto) || steps.some(step => step.filter(Boolean).length !== 1)) {
    throw new LabelFileError(ELSEWHERE);
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
  if (index.some((at, axis) => !(Math.abs(at - rounded[axis]) <= TOLERANCE_VOXELS))) throw new LabelFileError(ELSEWHERE);
  return rounded;
}

const count = grid => grid.size[0] * grid.size[1] * grid.size[2];
const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
