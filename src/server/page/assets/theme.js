// Sets the theme before the page is painted, and whenever it changes.

import { settings } from './settings.js';

export function applyTheme() {
  const { theme } = settings.get();
  if (theme === 'auto') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

applyTheme();
