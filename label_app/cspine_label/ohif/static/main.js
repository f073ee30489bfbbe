// Puts our panel into OHIF's annotation mode, once for each case that is opened there.

import { installKeys } from './keys.js';
import { buildPanel } from './panel.js';
import { Session } from './session.js';
import { site } from './site.js';
import * as viewer from './viewer.js';

const HOST = '.monaiLabelPanel';

const CHECK_MS = 400;

let session = null;

async function open() {
  await viewer.until(() => viewer.inMode() && document.querySelector(HOST));
  const shown = await viewer.until(viewer.shownCase);
  let draw = () => {};
  session = new Session(site, shown, () => draw());
  const built = buildPanel(session);
  draw = built.draw;
  draw();
  keepIn(built.panel);
  await session.open();
}

/** OHIF builds its side panel anew when it likes; ours moves along. */
function keepIn(panel) {
  const place = () => {
    const host = document.querySelector(HOST);
    if (host && panel.parentElement !== host) host.prepend(panel);
  };
  place();
  setInterval(place, CHECK_MS);
}

function styles() {
  const link = Object.assign(document.createElement('link'), { rel: 'stylesheet', href: '/ohif/cspine/panel.css' });
  document.head.append(link);
}

window.addEventListener('beforeunload', event => {
  if (session?.unsaved) event.preventDefault();
});
styles();
installKeys(() => session);
open().catch(error => console.error('The Fracture Map panel could not be opened:', error));
