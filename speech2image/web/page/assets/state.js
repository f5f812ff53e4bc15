// What goes on, in a few words: seen in one place, each tab its own, and read to screen readers once.
const seen = document.querySelector('#state'), read = document.querySelector('#announcer');
const texts = {};
let shown = 'say';

// A function that tells what goes on in a tab. `text` is shown while the tab is; what changes quickly, such as a
// count, is read as `spoken`, once, or not at all ('').
export const sayIn = (tab) => (text, spoken = text) => {
  texts[tab] = text;
  if (tab === shown && seen.textContent !== text) seen.textContent = text;
  if (spoken && read.textContent !== spoken) read.textContent = spoken;
};

export function showStateOf(tab) {
  shown = tab;
  seen.textContent = texts[tab] || '';
}
