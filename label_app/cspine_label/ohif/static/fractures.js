// What the annotator says of fractures: a decision for each level, with the marks drawn now and those saved before.

import * as marks from './marks.js';

export const DECISIONS = ['present', 'absent', 'undetermined'];

export class Fractures {
  #said = new Map();

  /** Take over what was saved before: {C4: {decision, boxes_lps_mm, points_lps_mm}, …}. */
  load(saved) {
    for (const [name, said] of Object.entries(saved)) {
      const earlier = { boxes: said.boxes_lps_mm ?? [], points: said.points_lps_mm ?? [] };
      this.#said.set(name, { decision: said.decision, earlier });
    }
  }

  decision(name) {
    return this.#said.get(name)?.decision ?? null;
  }

  /** Decide on a level; the same decision twice takes it back. Only a fracture that is present keeps its marks. */
  decide(name, decision) {
    if (this.decision(name) === decision) this.#said.delete(name);
    else this.#said.set(name, { decision, earlier: this.#said.get(name)?.earlier ?? { boxes: [], points: [] } });
    if (this.decision(name) !== 'present') this.clear(name);
  }

  /** A mark says that there is a fracture. */
  marked(name) {
    if (this.decision(name) !== 'present') this.decide(name, 'present');
  }

  /** Boxes and points of a level, LPS mm. */
  marks(name) {
    const earlier = this.#said.get(name)?.earlier ?? { boxes: [], points: [] };
    const drawn = marks.drawn(name);
    return { boxes: [...earlier.boxes, ...drawn.boxes], points: [...earlier.points, ...drawn.points] };
  }

  /** Remove the marks of a level. */
  clear(name) {
    marks.erase(name);
    const said = this.#said.get(name);
    if (said) said.earlier = { boxes: [], points: [] };
  }

  /** The middle of the first mark of a level, LPS mm; null without one. */
  place(name) {
    const { boxes, points } = this.marks(name);
    if (boxes.length) return boxes[0][0].map((low, i) => (low + boxes[0][1][i]) / 2);
    return points[0] ?? null;
  }

  /** As the server stores it. */
  toJSON() {
    const said = {};
    for (const [name, { decision }] of this.#said) {
      const { boxes, points } = this.marks(name);
      said[name] = { decision };
      if (decision === 'present' && boxes.length) said[name].boxes_lps_mm = boxes;
      if (decision === 'present' && points.length) said[name].points_lps_mm = points;
    }
    return said;
  }
}
