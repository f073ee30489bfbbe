// One case on the annotator's desk: what was done to it, and the actions of the buttons and keys.

import * as api from './api.js';
import { Fractures } from './fractures.js';
import { LabelFileError } from './grid.js';
import * as marks from './marks.js';
import * as nifti from './nifti.js';
import * as nrrd from './nrrd.js';
import * as viewer from './viewer.js';

const RADII_MM = [1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20];

export class Session {
  fractures = new Fractures();
  radius = 4;
  overlay = true;
  busy = null;
  connected = false;
  message = { kind: 'info', text: '' };
  #unsaved = false;

  constructor(site, shown, changed) {
    this.site = site;
    this.shown = shown;
    this.level = site.levels[0];
    this.changed = changed;
  }

  /** Whether something would be lost by leaving the page. */
  get unsaved() {
    return this.#unsaved;
  }

  /** Make the label map and the tools, ask the server what it knows. */
  async open() {
    await viewer.createLabelmap(this.shown, this.site.levels);
    viewer.onPainted(() => this.touch());
    marks.installMarks(() => this.level.name, mark => this.#marked(mark));
    viewer.setBrushRadius(this.radius);
    viewer.setLevel(this.level.value);
    await this.connect();
  }

  /** Ask the server whether it is there, has our model, and what was said of this case before. */
  connect() {
    return this.#during('Connecting…', async () => {
      this.connected = false;
      const { models } = await api.info();
      if (!models?.[this.site.model]) throw new api.ServerError(`The server has no model ${this.site.model}.`);
      this.connected = true;
      return this.#unsaved ? 'Connected.' : this.#recall();
    });
  }

  /** Show what was submitted for this case before. */
  async #recall() {
    const saved = await api.savedLabel(this.shown.image);
    if (!saved) return 'Connected.';
    viewer.setLabels(await nifti.decode(saved, viewer.grid(), this.#highest));
    this.fractures.load(await api.fractures(this.shown.image));
    return 'Connected. This case is labelled already; its label is shown.';
  }

  get #highest() {
    return Math.max(...this.site.levels.map(level => level.value));
  }

  /** Let the network draw the vertebrae; it replaces what is drawn. */
  run() {
    if (this.drawnLevels().length && !window.confirm('Run replaces what is drawn. Go on?')) return undefined;
    return this.#during('Segmenting…', async () => {
      const bytes = await api.segment(this.site.model, this.shown.image);
      viewer.setLabels(await nrrd.decode(bytes, viewer.grid(), this.#highest));
      this.touch();
      const found = this.drawnLevels();
      if (!found.length) return 'The network found no cervical vertebra here.';
      this.show(found[0]);
      return `Segmented: ${found.map(level => level.name).join(', ')}. Correct it, then submit.`;
    });
  }

  /** Send mask and fractures. */
  submit() {
    return this.#during('Saving…', async () => {
      const levels = this.drawnLevels();
      if (!levels.length) throw new api.ServerError('Nothing is drawn yet; run the segmentation or paint a level.');
      const file = await nrrd.encode(viewer.labels(), viewer.grid());
      const answer = await api.saveLabel(this.shown.image, file, {
        label_info: levels.map(level => ({ name: level.name, idx: level.value })),
        model: this.site.model,
        fractures: this.fractures.toJSON(),
      });
      this.#unsaved = false;
      return answer.message || `Saved: ${levels.map(level => level.name).join(', ')}.`;
    });
  }

  /** Go to the case that the server wants next. */
  async next() {
    if (this.#unsaved && !window.confirm('What you did on this case is not submitted. Leave it?')) return;
    await this.#during('Asking for the next case…', async () => {
      const sample = await api.nextCase(this.site.strategy);
      if (!sample.id) return sample.message;
      if (sample.id === this.shown.image) return 'No other case is left; this one is still yours.';
      this.#unsaved = false;
      location.assign(viewer.addressOf(sample));
      return 'Opening the next case…';
    });
  }

  /** Work on this level from now on. */
  choose(level) {
    this.level = level;
    viewer.setLevel(level.value);
    this.changed();
  }

  /** Work on this level, and move the viewports to it. */
  show(level) {
    this.choose(level);
    const place = this.fractures.place(level.name) ?? viewer.centerOf(level.value);
    if (place) viewer.jumpTo(this.shown, place);
  }

  /** Work on the next (1) or previous (-1) level. */
  step(by) {
    const { levels } = this.site;
    const at = levels.indexOf(this.level);
    this.show(levels[Math.min(Math.max(at + by, 0), levels.length - 1)]);
  }

  /** Give the left mouse button to a tool, or back to the window level. */
  tool(name) {
    viewer.setTool(viewer.currentTool() === name ? viewer.LOOK : name);
    this.changed();
  }

  /** A larger (1) or smaller (-1) brush. */
  resize(by) {
    const at = RADII_MM.indexOf(this.radius);
    this.radius = RADII_MM[Math.min(Math.max(at + by, 0), RADII_MM.length - 1)];
    viewer.setBrushRadius(this.radius);
    this.changed();
  }

  /** Show or hide the vertebrae. */
  toggleOverlay() {
    this.overlay = !this.overlay;
    viewer.setOverlay(this.shown, this.site.levels, this.overlay);
    this.changed();
  }

  /** Say whether a level is fractured. */
  decide(level, decision) {
    this.choose(level);
    this.fractures.decide(level.name, decision);
    this.touch();
  }

  /** Remove boxes and points of this level. */
  clearMarks() {
    this.fractures.clear(this.level.name);
    this.touch();
  }

  /** Something was done that the server has not got yet. */
  touch() {
    this.#unsaved = true;
    if (!this.busy) this.message = { kind: 'info', text: 'Not submitted yet.' };
    this.changed();
  }

  /** The levels that have voxels, from head to feet. */
  drawnLevels() {
    const present = new Set(viewer.labels());
    return this.site.levels.filter(level => present.has(level.value));
  }

  #marked(mark) {
    if (marks.drawn(mark.data.label).boxes.length + marks.drawn(mark.data.label).points.length) {
      this.fractures.marked(mark.data.label);
    }
    this.touch();
  }

  async #during(doing, work) {
    if (this.busy) return;
    this.busy = doing;
    this.message = { kind: 'info', text: doing };
    this.changed();
    try {
      this.message = { kind: 'done', text: await work() };
    } catch (error) {
      const expected = error instanceof api.ServerError || error instanceof LabelFileError;
      if (!expected) console.error(error);
      this.message = { kind: 'error', text: expected ? error.message : `The viewer failed: ${error.message}` };
    }
    this.busy = null;
    this.changed();
  }
}
