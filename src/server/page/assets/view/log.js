// The messages of the conversation that is shown.

import * as tree from '../tree.js';
import { render } from '../markdown.js';
import { byId, copy, element } from './elements.js';

const log = byId('log');
const shown = new Map();

/** Shows a conversation. Messages that are there already stay as they are, so that a growing answer does not move what is selected. */
export function show(conversation, isBusy) {
  const messages = tree.path(conversation);
  log.replaceChildren(...messages.map((node) => {
    const view = shown.get(node.id) ?? newMessage(node);
    shown.set(node.id, view);
    update(conversation, node, isBusy);
    return view.article;
  }));
  const ids = new Set(messages.map((node) => node.id));
  for (const id of shown.keys()) if (!ids.has(id)) shown.delete(id);
  log.classList.toggle('empty', messages.length === 0);
}

function newMessage(node) {
  const thoughts = element('div', { className: 'text' });
  const summary = element('summary', { textContent: 'Thoughts' });
  const reasoning = element('details', { className: 'reasoning', hidden: true }, summary, thoughts);
  const files = element('ul', { className: 'files' });
  const text = element('div', { className: 'text' });
  const calls = element('div', { className: 'calls' });
  const note = element('p', { className: 'note', hidden: true });
  const versions = element('span', { className: 'versions' });
  const figures = element('span', { className: 'message-figures' });
  const actions = element('div', { className: 'actions' });
  const who = node.role === 'user' ? 'You' : 'Model';
  const article = element(
    'article',
    { className: node.role, dataset: { id: node.id }, aria: { label: who } },
    reasoning, files, text, calls, note, element('div', { className: 'under' }, versions, actions, figures),
  );
  return { article, reasoning, summary, thoughts, files, text, calls, note, versions, figures, actions };
}

/** Shows what changed of one message. */
export function update(conversation, node, isBusy) {
  const view = shown.get(node.id);
  if (!view) return;
  view.article.classList.toggle('growing', Boolean(node.growing));
  view.article.setAttribute('aria-busy', String(Boolean(node.growing)));
  view.reasoning.hidden = !node.reasoning;
  if (node.reasoning) {
    view.summary.textContent = node.growing && !node.content ? 'Thinking…' : 'Thoughts';
    render(view.thoughts, node.reasoning);
  }
  if (node.role === 'user') view.text.textContent = node.content;
  else render(view.text, node.content);
  view.files.replaceChildren(...(node.files ?? []).map((file) => element('li', { textContent: file.name })));
  const calls = node.toolCalls ?? [];
  view.calls.replaceChildren(...calls.map((call) => element('pre', { textContent: `${call.name}(${call.arguments})` })));
  view.note.textContent = node.note ?? '';
  view.note.hidden = !node.note;
  view.note.classList.toggle('failed', Boolean(node.failed));
  const { timings } = node;
  view.figures.textContent = timings?.predicted_per_second
    ? `${timings.predicted_n} tokens, ${timings.predicted_per_second.toFixed(1)} a second`
    : '';
  versions(view, conversation, node, isBusy);
  actions(view, node, isBusy);
}

function versions(view, conversation, node, isBusy) {
  const all = tree.siblings(conversation, node);
  if (all.length < 2) {
    view.versions.replaceChildren();
    return;
  }
  const at = all.indexOf(node);
  const to = (step, text, label) => element('button', {
    type: 'button',
    textContent: text,
    disabled: isBusy || !all[at + step],
    dataset: { action: 'select', target: all[at + step]?.id ?? '' },
    aria: { label },
  });
  const where = element('span', { textContent: `${at + 1}/${all.length}` });
  view.versions.replaceChildren(to(-1, '‹', 'Previous version'), where, to(1, '›', 'Next version'));
}

function actions(view, node, isBusy) {
  const wanted = isBusy ? ['Copy'] : ['Copy', 'Edit', ...(node.role === 'assistant' ? ['Regenerate'] : []), 'Delete'];
  if (view.actions.dataset.wanted === wanted.join()) return;
  view.actions.dataset.wanted = wanted.join();
  view.actions.replaceChildren(...wanted.map((name) => element('button', {
    type: 'button',
    textContent: name,
    dataset: { action: name.toLowerCase() },
  })));
}

/** Puts a form in the place of a message's text; calls `done` with the new text, or not at all. */
export function edit(node, done) {
  const view = shown.get(node.id);
  const area = element('textarea', { value: node.content, aria: { label: 'Edited message' } });
  const save = element('button', { className: 'primary', textContent: node.role === 'user' ? 'Send' : 'Save' });
  const cancel = element('button', { type: 'button', textContent: 'Cancel' });
  const form = element('form', { className: 'edit' }, area, element('div', { className: 'dialog-buttons' }, element('span', { className: 'spring' }), cancel, save));
  const end = () => {
    form.replaceWith(view.text);
    view.actions.hidden = false;
  };
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    end();
    if (area.value.trim()) done(area.value);
  });
  cancel.addEventListener('click', end);
  area.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') {
      event.stopPropagation();
      end();
    } else if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  view.text.replaceWith(form);
  view.actions.hidden = true;
  const fit = () => {
    area.style.height = 'auto';
    area.style.height = `${area.scrollHeight + 2}px`;
  };
  area.addEventListener('input', fit);
  fit();
  area.focus();
}

/** Calls `act(action, id, target)` when a button of a message is pressed. */
export function onAction(act) {
  log.addEventListener('click', (event) => {
    const button = event.target.closest('button[data-action]');
    if (!button) return;
    if (button.dataset.action === 'copy-code') {
      copy(button.closest('.code').querySelector('code').textContent, button);
      return;
    }
    const { id } = button.closest('article').dataset;
    act(button.dataset.action, button.dataset.target || id, button);
  });
}

// Follows an answer as it grows, until the user scrolls away from its end.
let isFollowing = true;
log.addEventListener('scroll', () => {
  isFollowing = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
});

export function follow(always = false) {
  if (always) isFollowing = true;
  if (isFollowing) log.scrollTop = log.scrollHeight;
}
