// Small pieces of the page.

/** Makes an element with properties, `dataset` and `aria` attributes, and children. */
export function element(tag, { dataset, aria, ...properties } = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  Object.assign(made.dataset, dataset);
  for (const [name, value] of Object.entries(aria ?? {})) made.setAttribute(`aria-${name}`, value);
  made.append(...children);
  return made;
}

export const byId = (id) => document.getElementById(id);

/** Shows a message that goes away by itself, or when it is clicked. */
export function notice(text, kind = 'error') {
  const shown = element('button', { type: 'button', className: `notice ${kind}`, textContent: text });
  shown.addEventListener('click', () => shown.remove());
  byId('notices').append(shown);
  setTimeout(() => shown.remove(), kind === 'error' ? 12_000 : 4_000);
}

byId('ask-cancel').addEventListener('click', () => byId('ask').close());

/** Says something to screen readers alone. */
export function announce(text) {
  byId('announcer').textContent = text;
}

/** Asks for a line of text; `null` if the user thought better of it. */
export async function askText(title, value) {
  return (await ask(title, 'OK', value)) ? byId('ask-input').value.trim() || null : null;
}

/** Asks whether to do something that cannot be undone. */
export const askWhether = (title, verb) => ask(title, verb, null);

function ask(title, verb, value) {
  const dialog = byId('ask');
  byId('ask-title').textContent = title;
  byId('ask-confirm').textContent = verb;
  byId('ask-label').hidden = value === null;
  byId('ask-input').value = value ?? '';
  dialog.returnValue = '';
  dialog.showModal();
  if (value === null) byId('ask-confirm').focus();
  else byId('ask-input').select();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), { once: true });
  });
}

export async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without HTTPS there is no clipboard for pages of other machines.
    const area = element('textarea', { value: text, className: 'visually-hidden' });
    document.body.append(area);
    area.select();
    const copied = document.execCommand('copy');
    area.remove();
    if (!copied) return notice('The browser does not let this page copy.');
  }
  const label = button.textContent;
  button.textContent = 'Copied';
  setTimeout(() => { button.textContent = label; }, 1500);
  announce('Copied');
}

/** Has the browser save a file. */
export function saveFile(name, value) {
  const url = URL.createObjectURL(new Blob([JSON.stringify(value, null, 2)], { type: 'application/json' }));
  const link = element('a', { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
