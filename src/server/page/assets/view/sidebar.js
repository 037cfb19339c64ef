// The list of conversations.

import { byId, element } from './elements.js';

const list = byId('conversations');

/** Shows titles, the newest first, in groups by age. */
export function show(titles, currentId) {
  const groups = new Map();
  for (const title of titles) {
    const group = groupOf(title.updated);
    groups.set(group, [...(groups.get(group) ?? []), title]);
  }
  list.replaceChildren(...[...groups].flatMap(([group, titles]) => [
    element('li', { className: 'group', textContent: group }),
    ...titles.map((title) => item(title, title.id === currentId)),
  ]));
  if (titles.length === 0) list.append(element('li', { className: 'group', textContent: 'No conversations' }));
}

function item({ id, title }, isCurrent) {
  const name = title || 'New chat';
  const open = element('button', { type: 'button', className: 'open', textContent: name, title: name, dataset: { action: 'open' } });
  if (isCurrent) open.setAttribute('aria-current', 'true');
  const action = (text, action, label) => element('button', {
    type: 'button',
    className: 'icon',
    textContent: text,
    title: label,
    dataset: { action },
    aria: { label: `${label}: ${name}` },
  });
  const more = element('span', { className: 'more' }, action('✎', 'rename', 'Rename'), action('⤓', 'export', 'Export'), action('✕', 'delete', 'Delete'));
  return element('li', { dataset: { id }, className: isCurrent ? 'current' : '' }, open, more);
}

function groupOf(time) {
  const midnight = new Date().setHours(0, 0, 0, 0);
  const day = 86_400_000;
  if (time >= midnight) return 'Today';
  if (time >= midnight - day) return 'Yesterday';
  if (time >= midnight - 7 * day) return 'Last seven days';
  return new Date(time).toLocaleDateString(undefined, { month: 'long', year: 'numeric' });
}

/** Calls `act(action, id)` when a button of a conversation is pressed. */
export function onAction(act) {
  list.addEventListener('click', (event) => {
    const button = event.target.closest('button[data-action]');
    if (button) act(button.dataset.action, button.closest('li').dataset.id);
  });
}

const isNarrow = matchMedia('(max-width: 760px)');

export function setOpen(isOpen) {
  document.body.classList.toggle('sidebar-closed', !isOpen);
  byId('open-sidebar').setAttribute('aria-expanded', String(isOpen));
  byId('sidebar').inert = !isOpen;
  byId('page').inert = isOpen && isNarrow.matches;
  if (isOpen && isNarrow.matches) byId('close-sidebar').focus();
}

export const isOpen = () => !document.body.classList.contains('sidebar-closed');
export const isPhone = () => isNarrow.matches;
isNarrow.addEventListener('change', () => setOpen(!isNarrow.matches));
