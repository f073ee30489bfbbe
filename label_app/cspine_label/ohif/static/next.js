// The page that asks for a case and opens it, so that one address is enough to begin.

import { nextCase } from './api.js';
import { site } from './site.js';
import { addressOf } from './viewer.js';

const line = document.getElementById('cspine-next');
try {
  const sample = await nextCase(site.strategy);
  if (sample.id) location.replace(addressOf(sample));
  else line.textContent = sample.message;
} catch (error) {
  line.textContent = error.message;
  line.setAttribute('role', 'alert');
}
