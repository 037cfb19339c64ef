// What the user has set: kept in localStorage, shared by all tabs.

const KEY = 'bise.settings';

// Names are those of the request; `null` leaves the choice to the server.
export const SAMPLING = [
  { name: 'temperature', label: 'Temperature', min: 0, max: 2, step: 0.05 },
  { name: 'top_k', label: 'Top k', min: 0, max: 1000, step: 1 },
  { name: 'top_p', label: 'Top p', min: 0, max: 1, step: 0.01 },
  { name: 'min_p', label: 'Min p', min: 0, max: 1, step: 0.01 },
  { name: 'repeat_penalty', label: 'Repeat penalty', min: 0.5, max: 2, step: 0.05 },
  { name: 'presence_penalty', label: 'Presence penalty', min: -2, max: 2, step: 0.1 },
  { name: 'frequency_penalty', label: 'Frequency penalty', min: -2, max: 2, step: 0.1 },
  { name: 'seed', label: 'Seed', min: 0, max: 4294967295, step: 1 },
  { name: 'max_tokens', label: 'Longest answer (tokens)', min: 1, max: 1000000, step: 1 },
];

export const PRESETS = {
  'Server default': {},
  Precise: { temperature: 0.2, top_p: 0.9 },
  Balanced: { temperature: 0.7, top_p: 0.95 },
  Creative: { temperature: 1.1, min_p: 0.05 },
  Repeatable: { temperature: 0, seed: 1 },
};

const DEFAULTS = {
  theme: 'auto',
  apiKey: '',
  system: '',
  model: '',
  preset: 'Server default',
  sampling: {},
  presets: {},
  sidebar: true,
};

function read() {
  try {
    return { ...DEFAULTS, ...JSON.parse(localStorage.getItem(KEY) ?? '{}') };
  } catch {
    return { ...DEFAULTS };
  }
}

let current = read();
const listeners = new Set();

export const settings = {
  get: () => current,
  set(changes) {
    current = { ...current, ...changes };
    try {
      localStorage.setItem(KEY, JSON.stringify(current));
    } catch {
      // Private windows may have no storage: the settings last as long as the page.
    }
    listeners.forEach((listener) => listener(current));
  },
  onChange: (listener) => listeners.add(listener),
  presets: () => ({ ...PRESETS, ...current.presets }),
};

addEventListener('storage', (event) => {
  if (event.key !== KEY) return;
  current = read();
  listeners.forEach((listener) => listener(current));
});
