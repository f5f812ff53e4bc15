// What goes on, in a few words: seen in one place, and read to screen readers once.
const seen = document.querySelector('#state'), read = document.querySelector('#announcer');

// `text` is shown; what changes quickly, such as a count, is read as `spoken`, once, or not at all ('').
export function say(text, spoken = text) {
  if (seen.textContent !== text) seen.textContent = text;
  if (spoken && read.textContent !== spoken) read.textContent = spoken;
}
