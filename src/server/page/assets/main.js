// The page: puts conversations, server and views together.

import * as api from './api.js';
import { settings } from './settings.js';
import * as store from './store.js';
import { applyTheme } from './theme.js';
import * as tree from './tree.js';
import * as composer from './view/composer.js';
import { announce, askText, askWhether, byId, copy, element, notice, saveFile } from './view/elements.js';
import * as log from './view/log.js';
import * as settingsDialog from './view/settings_dialog.js';
import * as sidebar from './view/sidebar.js';

let conversation = tree.newConversation();
// The answer that is being written: `{ controller, conversation, node }`.
let running = null;
let nCtx = null;
let models = [];

const isBusyHere = () => running?.conversation.id === conversation.id;

// ---- conversations ----

function showConversation() {
  log.show(conversation, isBusyHere());
  composer.setBusy(running !== null);
  showFigures();
  document.title = conversation.title ? `${conversation.title} · bise` : 'bise';
}

async function showList() {
  const query = byId('search').value.trim();
  const [titles, found] = await Promise.all([store.list(), query ? store.search(query) : null]);
  sidebar.show(found ? titles.filter(({ id }) => found.has(id)) : titles, conversation.id);
}

async function save(saved) {
  try {
    await store.save(saved);
  } catch (error) {
    notice(`The conversation could not be saved in this browser: ${error?.message ?? error}`);
  }
}

function open(opened) {
  conversation = running?.conversation.id === opened.id ? running.conversation : opened;
  for (const node of Object.values(conversation.nodes)) {
    if (node.growing && running?.node !== node) Object.assign(node, { growing: false, note: 'Cut off: the page was closed.' });
  }
  history.replaceState(null, '', `#${conversation.id}`);
  showConversation();
  log.follow(true);
  showList();
  if (sidebar.isPhone()) sidebar.setOpen(false);
}

function newChat() {
  conversation = tree.newConversation();
  history.replaceState(null, '', '#');
  showConversation();
  showList();
  if (sidebar.isPhone()) sidebar.setOpen(false);
  composer.focus();
}

const conversationActions = {
  async open(id) {
    const loaded = await store.load(id);
    if (loaded) open(loaded);
  },
  async rename(id) {
    const renamed = id === conversation.id ? conversation : await store.load(id);
    const title = await askText('Name of the conversation', renamed.title);
    if (!title) return;
    renamed.title = title;
    await save(renamed);
    showConversation();
    showList();
  },
  async export(id) {
    const { title, ...rest } = await store.load(id);
    const name = title.replaceAll(/[^\p{L}\p{N}]+/gu, '-').replaceAll(/^-|-$/g, '') || 'chat';
    saveFile(`${name}.json`, { bise: 1, conversations: [{ title, ...rest }] });
  },
  async delete(id) {
    const { title } = await store.load(id);
    if (!await askWhether(`Delete “${title || 'New chat'}”?`, 'Delete')) return;
    if (running?.conversation.id === id) {
      running.deleted = true;
      running.controller.abort();
    }
    await store.remove(id);
    if (id === conversation.id) newChat();
    else showList();
  },
};

async function exportAll() {
  saveFile(`bise-${new Date().toISOString().slice(0, 10)}.json`, { bise: 1, conversations: await store.all() });
}

async function importFile(file) {
  try {
    const { conversations } = JSON.parse(await file.text());
    if (!Array.isArray(conversations)) throw new Error('expected "conversations", found none');
    const checked = conversations.map(tree.checkConversation);
    for (const imported of checked) {
      // Nothing that is here already is replaced by something older.
      const here = await store.load(imported.id);
      if (here && here.updated > imported.updated) imported.id = crypto.randomUUID();
      await store.save(imported);
    }
    notice(`${checked.length} conversation${checked.length === 1 ? '' : 's'} imported.`, 'done');
    showList();
  } catch (error) {
    notice(`${file.name} could not be imported: ${error.message}.`);
  }
}

// ---- answers ----

async function send() {
  const content = composer.text().trim();
  const files = composer.attached();
  if (running || (!content && files.length === 0)) return;
  composer.clear();
  const parent = conversation.leaf;
  tree.addMessage(conversation, parent, { role: 'user', content, ...(files.length > 0 && { files }) });
  if (!conversation.title) conversation.title = tree.titleOf(content || files[0].name);
  await answer();
}

/** Has the model answer the leaf of the conversation that is shown. */
async function answer() {
  const { system, sampling, model } = settings.get();
  const asked = conversation;
  const messages = tree.toRequest(tree.path(asked), system);
  const node = tree.addMessage(asked, asked.leaf, { role: 'assistant', growing: true, model });
  running = { controller: new AbortController(), conversation: asked, node };
  history.replaceState(null, '', `#${asked.id}`);
  showConversation();
  log.follow(true);
  await save(asked);
  showList();

  let savedAt = performance.now();
  let frame = 0;
  const draw = () => {
    frame = 0;
    if (conversation !== asked) return;
    log.update(asked, node, true);
    log.follow();
    showFigures();
  };
  const on = (part) => {
    take(node, part);
    if (part.progress) showProgress(part.progress);
    else if (part.content || part.reasoning) showProgress(null);
    if (!frame) frame = requestAnimationFrame(draw);
    if (performance.now() - savedAt > 2000) {
      savedAt = performance.now();
      save(asked);
    }
  };
  // The picker tells that the model is loaded for this.
  const loads = models.find(({ id }) => id === model)?.status !== 'loaded';
  if (loads) setTimeout(() => wakeModels(), 200);
  try {
    const request = { messages, ...sampling, ...(model && { model }) };
    await api.chat(request, { signal: running.controller.signal, on });
    if (node.finish === 'length') node.note = 'Ended at the longest length, or the context is full.';
    if (!node.content && !node.reasoning && !node.toolCalls) node.note = 'The model ended without a word.';
  } catch (error) {
    if (error.name === 'AbortError') node.note = 'Stopped.';
    else Object.assign(node, { note: error.message, failed: true });
    if (error.status === 401) notice('This server wants an API key: see Settings.');
  }
  cancelAnimationFrame(frame);
  node.growing = false;
  const { deleted } = running;
  running = null;
  if (loads) wakeModels();
  showProgress(null);
  asked.updated = Date.now();
  if (!deleted) await save(asked);
  if (conversation === asked) announce(node.failed ? node.note : 'Answer complete.');
  showConversation();
  showList();
}

function take(node, { content, reasoning, toolCalls, timings, usage, finish }) {
  if (content) node.content += content;
  if (reasoning) node.reasoning = (node.reasoning ?? '') + reasoning;
  for (const call of toolCalls ?? []) {
    node.toolCalls ??= [];
    node.toolCalls[call.index] ??= { name: '', arguments: '' };
    node.toolCalls[call.index].name += call.function?.name ?? '';
    node.toolCalls[call.index].arguments += call.function?.arguments ?? '';
  }
  if (timings) node.timings = timings;
  if (usage) node.usage = usage;
  if (finish) node.finish = finish;
}

function stop() {
  running?.controller.abort();
}

const messageActions = {
  copy: (node, button) => copy(node.content, button),
  select(node) {
    tree.select(conversation, node.id);
    save(conversation);
    showConversation();
  },
  edit(node) {
    log.edit(node, (content) => {
      if (running) {
        notice('Stop the answer that is being written first.');
        return;
      }
      const { role, files, parent } = node;
      tree.addMessage(conversation, parent, { role, content, ...(files && { files }) });
      if (role === 'user') {
        answer();
      } else {
        save(conversation);
        showConversation();
      }
    });
  },
  regenerate(node) {
    if (running) return;
    conversation.leaf = node.parent;
    answer();
  },
  async delete(node) {
    if (!await askWhether('Delete this message and what follows it?', 'Delete')) return;
    tree.remove(conversation, node.id);
    await save(conversation);
    showConversation();
  },
};

// ---- figures ----

function showProgress(progress) {
  byId('progress').hidden = !progress;
  if (!progress) return;
  const { processed, total, cache } = progress;
  byId('progress-bar').value = total ? processed / total : 0;
  byId('progress-text').textContent = `Reading ${processed} of ${total} tokens${cache ? `, ${cache} known` : ''}`;
}

function showFigures() {
  const last = tree.path(conversation).findLast((node) => node.role === 'assistant');
  const { timings, usage } = last ?? {};
  byId('speed').textContent = timings?.predicted_per_second ? `${timings.predicted_per_second.toFixed(1)} tokens a second` : '';
  const used = usage?.total_tokens ?? (timings ? (timings.cache_n ?? 0) + timings.prompt_n + timings.predicted_n : null);
  const context = nCtx ? `${used ?? 0} of ${nCtx} tokens` : `${used} tokens`;
  byId('context').textContent = used === null && !nCtx ? '' : context;
}

async function watchModels() {
  for (;;) {
    let wait = 15_000;
    try {
      models = await api.models();
      showModels();
      if (await api.isReady()) {
        const chosen = models.find(({ id }) => id === byId('model').value);
        byId('model-status').textContent = chosen?.status === 'loading' ? 'Loading…' : '';
        nCtx = chosen?.status === 'loaded' ? (await api.props(chosen.id)).nCtx : null;
      } else {
        byId('model-status').textContent = 'Loading…';
        wait = 500;
      }
      if (models.some(({ status }) => status === 'loading')) wait = 1000;
      showFigures();
    } catch (error) {
      byId('model-status').textContent = error.status === 401 ? 'API key needed' : 'Offline';
      wait = 3000;
    }
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, wait);
      wakeModels = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

let wakeModels = () => {};

function showModels() {
  const select = byId('model');
  const wanted = settings.get().model;
  const options = models.map(({ id, status }) => new Option(status === 'loaded' ? id : `${id} (${status})`, id));
  select.replaceChildren(...options);
  const chosen = models.find(({ id }) => id === wanted) ?? models.find(({ status }) => status === 'loaded') ?? models[0];
  if (chosen) select.value = chosen.id;
  if ((chosen?.id ?? '') !== wanted) settings.set({ model: chosen?.id ?? '' });
}

// ---- keyboard ----

const isMac = navigator.platform.startsWith('Mac');
const shortcuts = [
  { keys: 'Enter', does: 'Send the message' },
  { keys: 'Shift+Enter', does: 'New line' },
  { keys: 'Esc', does: 'Stop the answer' },
  { keys: 'Ctrl+Shift+O', does: 'New chat', run: newChat },
  { keys: 'Ctrl+K', does: 'Search conversations', run: search },
  { keys: 'Ctrl+Shift+S', does: 'Show or hide conversations', run: toggleSidebar },
  { keys: 'Ctrl+,', does: 'Settings', run: settingsDialog.open },
  { keys: 'Ctrl+/', does: 'This list', run: () => byId('shortcuts').showModal() },
  { keys: 'Up', does: 'Edit the last message, from an empty message box' },
];

function search() {
  sidebar.setOpen(true);
  byId('search').focus();
}

function toggleSidebar() {
  sidebar.setOpen(!sidebar.isOpen());
  if (!sidebar.isPhone()) settings.set({ sidebar: sidebar.isOpen() });
}

byId('shortcut-list').append(...shortcuts.flatMap(({ keys, does }) => [
  element('dt', {}, ...keys.split('+').flatMap((key, i) => [
    ...(i > 0 ? ['+'] : []),
    element('kbd', { textContent: isMac && key === 'Ctrl' ? '⌘' : key }),
  ])),
  element('dd', { textContent: does }),
]));

addEventListener('keydown', (event) => {
  const isOpen = document.querySelector('dialog[open]') !== null;
  if (event.key === 'Escape' && !isOpen) {
    if (sidebar.isPhone() && sidebar.isOpen()) sidebar.setOpen(false);
    else if (document.activeElement === byId('search') && byId('search').value) clearSearch();
    else stop();
  } else if (event.key === 'ArrowUp' && event.target === byId('prompt') && !composer.text()) {
    const last = tree.path(conversation).findLast((node) => node.role === 'user');
    if (last && !running) {
      event.preventDefault();
      messageActions.edit(last);
    }
  } else if ((isMac ? event.metaKey : event.ctrlKey) && !event.altKey && !isOpen) {
    const name = `Ctrl+${event.shiftKey ? 'Shift+' : ''}${event.key.toUpperCase()}`;
    const shortcut = shortcuts.find(({ keys, run }) => run && keys.toUpperCase() === name.toUpperCase());
    if (shortcut) {
      event.preventDefault();
      shortcut.run();
    }
  }
});

function clearSearch() {
  byId('search').value = '';
  showList();
}

// ---- start ----

composer.onSend(send);
byId('stop').addEventListener('click', stop);
byId('new-chat').addEventListener('click', newChat);
byId('open-sidebar').addEventListener('click', toggleSidebar);
byId('close-sidebar').addEventListener('click', () => sidebar.setOpen(false));
byId('open-settings').addEventListener('click', settingsDialog.open);
byId('open-shortcuts').addEventListener('click', () => byId('shortcuts').showModal());
byId('export-all').addEventListener('click', exportAll);
byId('import').addEventListener('click', () => byId('import-file').click());
byId('import-file').addEventListener('change', (event) => {
  [...event.target.files].forEach(importFile);
  event.target.value = '';
});
byId('search').addEventListener('input', showList);
byId('model').addEventListener('change', (event) => {
  settings.set({ model: event.target.value });
  nCtx = null;
  wakeModels();
});
sidebar.onAction((action, id) => conversationActions[action](id));
log.onAction((action, id, button) => {
  const node = conversation.nodes[id];
  if (node) messageActions[action](node, button);
});
let lastKey = settings.get().apiKey;
settings.onChange(({ apiKey }) => {
  applyTheme();
  if (apiKey !== lastKey) {
    lastKey = apiKey;
    wakeModels();
  }
});
addEventListener('beforeunload', () => running && store.save(running.conversation));

sidebar.setOpen(!sidebar.isPhone() && settings.get().sidebar);
try {
  const linked = location.hash.length > 1 ? await store.load(location.hash.slice(1)) : null;
  if (linked) open(linked);
  else newChat();
} catch (error) {
  notice(`This browser keeps no conversations here: ${error?.message ?? error}`);
  showConversation();
}
watchModels();
