// Keys that OHIF leaves free; they are taken before OHIF sees them, and never while somebody types.

import { BOX, POINT } from './marks.js';
import { BRUSH, ERASER } from './viewer.js';

const ACTIONS = {
  b: session => session.tool(BRUSH),
  e: session => session.tool(ERASER),
  d: session => session.tool(BOX),
  t: session => session.tool(POINT),
  '[': session => session.resize(-1),
  ']': session => session.resize(1),
  n: session => session.step(1),
  N: session => session.step(-1),
  o: session => session.toggleOverlay(),
  p: session => session.decide(session.level, 'present'),
  a: session => session.decide(session.level, 'absent'),
  u: session => session.decide(session.level, 'undetermined'),
};

/** Listen to the keyboard. */
export function installKeys(current) {
  window.addEventListener(
    'keydown',
    event => {
      const typing = event.target.closest?.('input, textarea, select, [contenteditable]');
      const action = ACTIONS[event.key];
      const session = current();
      if (typing || !action || !session || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      event.stopImmediatePropagation();
      action(session);
    },
    true
  );
}
