// The dialog of settings.

import { PRESETS, SAMPLING, settings } from '../settings.js';
import { askText, byId, element, notice } from './elements.js';

const dialog = byId('settings');
const form = dialog.querySelector('form');

for (const { name, label, min, max, step } of SAMPLING) {
  const input = element('input', { type: 'number', name, min, max, step: 'any', placeholder: 'server’s', inputMode: step < 1 ? 'decimal' : 'numeric' });
  byId('sampling').append(element('label', {}, label, input));
}

export function open() {
  fill();
  dialog.showModal();
}

function fill() {
  const current = settings.get();
  for (const name of ['theme', 'apiKey', 'system']) form.elements[name].value = current[name];
  const presets = Object.keys(settings.presets());
  form.elements.preset.replaceChildren(...presets.map((name) => new Option(name, name)), new Option('Custom', ''));
  const isOne = JSON.stringify(settings.presets()[current.preset]) === JSON.stringify(current.sampling);
  form.elements.preset.value = isOne ? current.preset : '';
  for (const { name } of SAMPLING) form.elements[name].value = current.sampling[name] ?? '';
  byId('delete-preset').disabled = !isOne || current.preset in PRESETS;
}

form.addEventListener('change', (event) => {
  const { name, value } = event.target;
  if (name === 'preset') {
    if (value) settings.set({ preset: value, sampling: { ...settings.presets()[value] } });
    fill();
  } else if (SAMPLING.some((parameter) => parameter.name === name)) {
    if (!event.target.reportValidity()) return;
    const { [name]: _, ...rest } = settings.get().sampling;
    settings.set({ preset: '', sampling: value === '' ? rest : { ...rest, [name]: Number(value) } });
    fill();
  } else if (name === 'theme') {
    settings.set({ theme: value });
  }
});

// As they are typed: a dialog may be closed before a text field says that it has changed.
form.addEventListener('input', ({ target: { name, value } }) => {
  if (name === 'apiKey' || name === 'system') settings.set({ [name]: value });
});

byId('save-preset').addEventListener('click', async () => {
  const name = await askText('Name of the preset', '');
  if (!name) return;
  if (name in PRESETS) {
    notice(`“${name}” comes with the page. Choose another name.`);
    return;
  }
  const { presets, sampling } = settings.get();
  settings.set({ presets: { ...presets, [name]: sampling }, preset: name });
  fill();
});

byId('delete-preset').addEventListener('click', () => {
  const { [settings.get().preset]: _, ...presets } = settings.get().presets;
  settings.set({ presets, preset: '' });
  fill();
});
