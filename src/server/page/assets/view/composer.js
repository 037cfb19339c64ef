// The box that messages are written in, with the files that go along.

import { byId, element, notice } from './elements.js';

const MOST_FILE_BYTES = 1 << 20;

const box = byId('prompt');
let files = [];

export const text = () => box.value;
export const attached = () => files;
export const focus = () => box.focus();

export function clear() {
  box.value = '';
  files = [];
  showFiles();
  fit();
}

/** Puts a message back that could not be sent. */
export function restore(value, restored) {
  box.value = value;
  files = restored;
  showFiles();
  fit();
}

export function setBusy(isBusy) {
  byId('send').hidden = isBusy;
  byId('stop').hidden = !isBusy;
}

function fit() {
  box.style.height = 'auto';
  box.style.height = `${Math.min(box.scrollHeight, innerHeight * 0.4)}px`;
}

function showFiles() {
  byId('files').replaceChildren(...files.map((file, i) => {
    const drop = element('button', { type: 'button', className: 'icon', textContent: '✕', aria: { label: `Remove ${file.name}` } });
    drop.addEventListener('click', () => {
      files.splice(i, 1);
      showFiles();
      box.focus();
    });
    return element('li', {}, element('span', { textContent: file.name }), drop);
  }));
}

/** Attaches text files; says why where one cannot be read as text. */
export async function attach(list) {
  for (const file of list) {
    try {
      files.push({ name: file.name, text: await textOf(file) });
    } catch (error) {
      notice(error.message);
    }
  }
  showFiles();
  box.focus();
}

async function textOf(file) {
  if (file.size > MOST_FILE_BYTES) throw new Error(`${file.name} is larger than 1 MB.`);
  if (file.type.startsWith('image/')) throw new Error(`${file.name} is an image. This model reads text.`);
  const bytes = await file.arrayBuffer();
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    if (!text.includes('\0')) return text;
  } catch {
    // Not UTF-8.
  }
  throw new Error(`${file.name} is not a text file.`);
}

/** Calls `send` when the user sends the message. */
export function onSend(send) {
  byId('composer').addEventListener('submit', (event) => {
    event.preventDefault();
    send();
  });
  box.addEventListener('input', fit);
  box.addEventListener('keydown', (event) => {
    // On a phone the Enter key is for new lines; while characters are composed it chooses one of them.
    const isPhone = matchMedia('(pointer: coarse)').matches;
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing && !isPhone) {
      event.preventDefault();
      send();
    }
  });
  byId('attach').addEventListener('click', () => byId('attach-file').click());
  byId('attach-file').addEventListener('change', (event) => {
    attach([...event.target.files]);
    event.target.value = '';
  });
  box.addEventListener('paste', (event) => {
    const pasted = [...event.clipboardData.files];
    if (pasted.length > 0) {
      event.preventDefault();
      attach(pasted);
    }
  });
  onDrop();
}

function onDrop() {
  const isFiles = (event) => event.dataTransfer?.types.includes('Files');
  let depth = 0;
  const show = (change) => {
    depth = Math.max(0, depth + change);
    byId('drop').hidden = depth === 0;
  };
  addEventListener('dragenter', (event) => isFiles(event) && show(1));
  addEventListener('dragleave', (event) => isFiles(event) && show(-1));
  addEventListener('dragover', (event) => isFiles(event) && event.preventDefault());
  addEventListener('drop', (event) => {
    if (!isFiles(event)) return;
    event.preventDefault();
    show(-depth);
    attach([...event.dataTransfer.files]);
  });
}
