// Light or dark: the system's choice, unless the reader has made one here. Loaded
// before the page is shown, so that it does not flash.

(() => {
  const KEY = 'weir-theme';
  const ORDER = ['system', 'light', 'dark'];
  const stored = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // storage is forbidden: the system's choice
    }
  };
  const apply = (theme) => {
    document.documentElement.dataset.theme = theme;
    const button = document.getElementById('theme');
    if (button) button.textContent = `Theme: ${theme}`;
  };
  apply(ORDER.includes(stored()) ? stored() : 'system');
  document.addEventListener('DOMContentLoaded', () => {
    apply(document.documentElement.dataset.theme);
    document.getElementById('theme').addEventListener('click', () => {
      const next = ORDER[(ORDER.indexOf(document.documentElement.dataset.theme) + 1) % ORDER.length];
      try {
        localStorage.setItem(KEY, next);
      } catch {
        // It holds until the page is loaded again.
      }
      apply(next);
      document.dispatchEvent(new Event('themechange'));
    });
  });
})();
