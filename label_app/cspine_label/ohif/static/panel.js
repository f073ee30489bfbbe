// The panel: plain elements in OHIF's right side, drawn anew from the session whenever it changes.

import { DECISIONS } from './fractures.js';
import { BOX, POINT } from './marks.js';
import { BRUSH, currentTool, ERASER } from './viewer.js';

const SIGNS = { present: 'Present', absent: 'Absent', undetermined: 'Unsure' };

/** Build the panel: its element, and a function that draws the session's present state into it. */
export function buildPanel(session) {
  const panel = element('section', { className: 'cspine', ariaLabel: 'Fracture Map' });
  const status = element('p', { className: 'cspine-status', role: 'status' });
  const actions = row(
    button('Run segmentation', () => session.run(), { id: 'cspine-run' }),
    button('Submit', () => session.submit(), { id: 'cspine-submit' }),
    button('Next case', () => session.next(), { id: 'cspine-next' })
  );
  const radius = element('output', { id: 'cspine-radius' });
  const painting = row(
    toolButton('Brush', BRUSH, session, 'b'),
    toolButton('Eraser', ERASER, session, 'e'),
    button('−', () => session.resize(-1), { title: 'Smaller brush ([)', ariaLabel: 'Smaller brush' }),
    radius,
    button('+', () => session.resize(1), { title: 'Larger brush (])', ariaLabel: 'Larger brush' })
  );
  const overlay = button('Overlay', () => session.toggleOverlay(), { id: 'cspine-overlay', title: 'Show or hide (o)' });
  const retry = button('Connect again', () => session.connect(), { id: 'cspine-connect' });
  const levels = session.site.levels.map(level => levelRow(level, session));
  const marking = element('p', { className: 'cspine-row', id: 'cspine-marking' });
  const chosen = element('strong', {});
  marking.append(
    chosen,
    toolButton('Draw box', BOX, session, 'd'),
    toolButton('Set point', POINT, session, 't'),
    button('Clear', () => session.clearMarks(), { id: 'cspine-clear', title: 'Remove the marks of this level' })
  );
  const table = element('div', { className: 'cspine-levels' });
  table.append(...levels.map(line => line.node));
  panel.append(status, retry, actions, painting, row(overlay), heading('Fractures'), table, marking, help());
  const draw = () => {
    status.textContent = session.message.text;
    status.dataset.kind = session.message.kind;
    status.role = session.message.kind === 'error' ? 'alert' : 'status';
    retry.hidden = session.connected || Boolean(session.busy);
    for (const node of actions.children) node.disabled = Boolean(session.busy);
    radius.textContent = `${session.radius} mm`;
    for (const node of panel.querySelectorAll('[data-tool]')) press(node, node.dataset.tool === currentTool());
    press(overlay, session.overlay);
    chosen.textContent = session.level.name;
    for (const line of levels) line.draw();
    panel.dataset.unsaved = session.unsaved;
  };
  return { panel, draw };
}

function levelRow(level, session) {
  const node = element('div', { className: 'cspine-level', role: 'group', ariaLabel: level.name });
  const name = button(level.name, () => session.show(level), { className: 'cspine-name', title: 'Paint and show this level' });
  name.style.setProperty('--cspine-color', `rgb(${level.rgb.join()})`);
  const choices = DECISIONS.map(decision => {
    const choice = button(SIGNS[decision], () => session.decide(level, decision), { title: `${level.name}: ${decision}` });
    choice.dataset.decision = decision;
    return choice;
  });
  const marks = element('span', { className: 'cspine-marks' });
  node.append(name, ...choices, marks);
  const draw = () => {
    press(name, session.level === level);
    for (const choice of choices) press(choice, session.fractures.decision(level.name) === choice.dataset.decision);
    const { boxes, points } = session.fractures.marks(level.name);
    marks.textContent = [...boxes.map(() => '▭'), ...points.map(() => '•')].join('');
    marks.title = `${boxes.length} boxes, ${points.length} points`;
  };
  return { node, draw };
}

function toolButton(label, tool, session, key) {
  const node = button(label, () => session.tool(tool), { title: `${label} (${key})` });
  node.dataset.tool = tool;
  return node;
}

function help() {
  const node = element('details', {});
  const text = 'b brush, e eraser, [ and ] brush size, n and Shift+n next and previous level, p present, a absent, u unsure, d box, t point, o overlay';
  node.append(element('summary', { textContent: 'Keys' }), element('p', { textContent: text }));
  return node;
}

function button(textContent, onclick, more) {
  return element('button', { type: 'button', textContent, onclick, ...more });
}

function row(...nodes) {
  const node = element('p', { className: 'cspine-row' });
  node.append(...nodes);
  return node;
}

const heading = textContent => element('h3', { textContent });
const press = (node, pressed) => node.setAttribute('aria-pressed', String(pressed));
const element = (name, properties) => Object.assign(document.createElement(name), properties);
